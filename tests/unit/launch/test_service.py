"""A service that cannot start says why in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from errors import ConfigError, UnavailableError
from launch.service import _ray_start_errors, private_config, running_service


def test_running_service_unreadable_certificate_is_refused(repo_root: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((repo_root / "serve_config.cpu.yaml").read_text(encoding="utf-8"))
    missing = str(tmp_path / "chain.pem")
    config["applications"][0]["args"]["labels"] = {"certificate": missing, "private_key": missing}
    path = tmp_path / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    with (
        pytest.raises(ConfigError, match=r"labels.certificate: .*chain.pem cannot be read"),
        running_service(private_config(tmp_path / "data", path)),
    ):
        raise AssertionError("it started")
    assert not (tmp_path / "data" / "labels").exists(), "no test certificate takes its place"


def test_ray_start_failure_is_one_line_with_a_fix(tmp_path: Path) -> None:
    with (
        pytest.raises(UnavailableError, match=r"Ray did not start: timed out\. If the machine is busy.*service\.log"),
        _ray_start_errors(tmp_path / "service.log"),
    ):
        raise Exception("The actor died.\n\tpid: 7\ntimed out.")  # noqa: TRY002  # as Ray does


def test_ray_start_errors_lets_lipwright_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(ConfigError), _ray_start_errors(tmp_path):
        raise ConfigError("No such folder.")
