"""What is built on Ray's private API: the output of workers, the start of a node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import ray
from ray._private.log_monitor import LogMonitor

from deployments.runtime import ray_internals
from tests.waiting import wait_until


def test_worker_output_is_passed_on_after_a_failed_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node = SimpleNamespace(get_logs_dir_path=lambda: str(tmp_path))
    monkeypatch.setattr(ray_internals, "_global_node", lambda: node)
    monkeypatch.setattr(ray_internals, "_LOG_PERIOD_S", 0.01)
    update: Callable[[LogMonitor], None] = LogMonitor.update_log_filenames
    seen: list[Mapping[str, Any]] = []

    def fail_first(monitor: LogMonitor) -> None:
        monkeypatch.setattr(LogMonitor, "update_log_filenames", update)
        raise AttributeError("as Ray's error handling does when a read fails")

    monkeypatch.setattr(LogMonitor, "update_log_filenames", fail_first)
    log = tmp_path / "worker-ab-01000000-77.err"
    with ray_internals.worker_output(seen.append), log.open("w") as file:
        file.write(":actor_name:ServeReplica:app:Studio\nfirst\n")
        file.flush()
        wait_until(lambda: seen)
        file.write("last\n")
    assert [line for data in seen for line in data["lines"]] == ["first", "last"], "also what is printed at the end"
    assert {(data["pid"], data["actor_name"]) for data in seen} == {(77, "ServeReplica:app:Studio")}
    assert "could not read the output" in caplog.text


def test_patient_node_start_waits_for_a_late_raylet(monkeypatch: pytest.MonkeyPatch) -> None:
    get_node = Mock(side_effect=[RuntimeError("not registered"), RuntimeError("not registered"), {"node_id": "a"}])
    monkeypatch.setattr(ray._private.services, "get_node", get_node)
    with ray_internals._patient_node_start():
        assert ray._private.services.get_node("127.0.0.1:1", "a") == {"node_id": "a"}
    assert ray._private.services.get_node is get_node
    get_node.side_effect = RuntimeError("never")
    monkeypatch.setattr(ray_internals, "_NODE_START_S", 0.0)
    with ray_internals._patient_node_start(), pytest.raises(RuntimeError, match="never"):
        ray._private.services.get_node("127.0.0.1:1", "a")
