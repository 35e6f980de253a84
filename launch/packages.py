"""The installed packages, compared with the requirements of pyproject.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from launch.environment import ROOT


def own_requirements() -> list[str]:
    """Return the requirements of this checkout, and those of the installed Lipwright with their extras.

    After an update of the checkout they differ until `make setup` has run.
    """
    installed = (requires("lipwright") or []) if installed_version("lipwright") else []
    project = ROOT / "pyproject.toml"
    if not project.is_file():
        return installed
    return [*tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"], *installed]


def needed(requirements: Iterable[str]) -> list[Requirement]:
    """Return the requirements of this environment without extras, one per package: the first."""
    wanted = [Requirement(line) for line in requirements]
    applicable = [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    return list({each.name: each for each in reversed(applicable)}.values())


def faults(requirements: Iterable[Requirement]) -> list[str]:
    """Return a text per package that is missing or has a wrong version."""
    return [fault for each in requirements if (fault := _fault(each))]


def installed_version(package: str) -> str | None:
    """Return the version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _fault(requirement: Requirement) -> str:
    found = installed_version(requirement.name)
    if found is None:
        return f"{requirement.name} is missing"
    if not requirement.specifier.contains(found, prereleases=True):
        return f"{requirement.name} {found} is not {requirement.specifier}"
    return ""
