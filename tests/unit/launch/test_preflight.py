"""Packages that an update of the checkout needs: named before anything starts, with what to do."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from cli.terminal import commands
from errors import ConfigError
from launch import preflight
from launch.preflight import check_packages, faults, needed, own_requirements


def test_own_requirements_are_those_of_the_checkout() -> None:
    names = [Requirement(line).name for line in own_requirements()]
    assert names[0] == "ray"
    check_packages()


def test_needed_uses_the_first_requirement_without_extras() -> None:
    lines = ["numpy>=99", "numpy>=1", "pytest>=1", 'nonesuch>=1; extra == "gpu"']
    (fault,) = faults(needed(lines))
    assert fault.startswith("numpy ") and fault.endswith("is not >=99")


def test_check_packages_missing_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "own_requirements", lambda: ["lipwright-of-tomorrow>=1"])
    with pytest.raises(ConfigError, match="lipwright-of-tomorrow is missing. Run `make setup`"):
        check_packages()


def test_command_missing_module_is_named() -> None:
    app = commands()

    @app.command()
    def one() -> None:
        import module_of_tomorrow  # type: ignore[import-not-found]  # noqa: F401

    @app.command()
    def two() -> None: ...

    done = CliRunner().invoke(app, ["one"])
    assert done.exit_code == 1
    assert done.stderr.startswith("error: config_invalid: The Python module module_of_tomorrow is missing.")
    assert "make setup" in done.stderr
