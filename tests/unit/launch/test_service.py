"""A service that cannot start says why in one line."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml

from errors import ConfigError, UnavailableError
from launch.service import _ray_start_errors, private_config, running_service
from launch.service_log import Terminal, open_service_log


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


SERVE_LINE = "{level} 2026-01-02 03:04:05,678 lipwright_Director cq2lcvxq 71fd9d70 -- {message}"


def test_service_log_terminal_has_warnings_file_has_all(tmp_path: Path) -> None:
    shown: list[str] = []
    lines = [
        SERVE_LINE.format(level="INFO", message="started"),
        SERVE_LINE.format(level="WARNING", message="job 4f00: a call was lost"),
        "Traceback (most recent call last):",
    ]
    replica = {"actor_name": "ServeReplica:lipwright:Director", "pid": 7, "lines": lines}
    controller = {"actor_name": "ServeController", "pid": 8, "lines": [SERVE_LINE.format(level="ERROR", message="no")]}
    before = {name: logging.getLogger(name).handlers for name in ("ray", "ray._private", "ray.serve")}
    try:
        with open_service_log(tmp_path / "service.log", Terminal(step=shown.append, warn=shown.append)) as log:
            log.take_over_ray()
            log.write(replica)
            log.write(controller)
            logging.getLogger("ray").info("of this process")
    finally:
        for name, handlers in before.items():
            logging.getLogger(name).handlers = handlers
    assert shown == ["WARNING Director: job 4f00: a call was lost"]
    written = (tmp_path / "service.log").read_text(encoding="utf-8").splitlines()
    assert len(written) == 5
    assert all(line in text for line, text in zip(lines, written, strict=False))
    assert written[-1].endswith("of this process")
