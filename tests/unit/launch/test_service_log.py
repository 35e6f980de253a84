"""What a local service writes to its log file, and what of it the terminal shows."""

from __future__ import annotations

import logging
from pathlib import Path

from launch.service_log import Terminal, open_service_log

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
