"""A service whose results could not be signed does not start, and says why before Ray does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from errors import ConfigError
from launch.service import running_service


def test_running_service_unreadable_certificate_is_refused(repo_root: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((repo_root / "serve_config.cpu.yaml").read_text(encoding="utf-8"))
    missing = str(tmp_path / "chain.pem")
    config["applications"][0]["args"]["labels"] = {"certificate": missing, "private_key": missing}
    path = tmp_path / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    was_loaded = "ray" in sys.modules
    with (
        pytest.raises(ConfigError, match=r"labels.certificate: .*chain.pem cannot be read"),
        running_service(data_dir=tmp_path / "data", config_path=path),
    ):
        raise AssertionError("it started")
    assert ("ray" in sys.modules) is was_loaded
    assert not (tmp_path / "data" / "labels").exists(), "no test certificate takes its place"
