"""The shipped units start the service again however it ends, with commands that exist."""

from __future__ import annotations

import configparser
from pathlib import Path

import yaml
from typer.testing import CliRunner

from cli.main import app


def test_systemd_unit_restarts_the_service(repo_root: Path) -> None:
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(repo_root / "cluster" / "lipwright.service")
    service = unit["Service"]
    assert (service["Restart"], service["KillMode"], service["UMask"]) == ("always", "control-group", "0077")
    _, *arguments = service["ExecStart"].split()
    assert "--data-dir" in arguments
    assert CliRunner().invoke(app, [arguments[0], "--help"]).exit_code == 0


def test_compose_service_restarts_the_container(repo_root: Path) -> None:
    compose = yaml.safe_load((repo_root / "cluster" / "compose.yaml").read_text(encoding="utf-8"))
    service = compose["services"]["lipwright"]
    assert (service["restart"], service["init"]) == ("always", True)
    container = (repo_root / "cluster" / "Containerfile").read_text(encoding="utf-8")
    (mounted,) = service["volumes"]
    assert mounted.partition(":")[2] in container
