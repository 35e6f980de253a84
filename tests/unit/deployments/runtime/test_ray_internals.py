"""What is built on Ray's private API: ids of forked workers, the output of workers, Serve's controller."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import psutil
import pytest
import ray
from ray._private.log_monitor import LogMonitor

from deployments.runtime import ray_internals
from tests.waiting import wait_until

_CODE = """
import ray
from deployments.runtime.ray_internals import draws_own_ids, ids_of_classes_from_system

class Counter:
    pass

with ids_of_classes_from_system():
    ray.remote(Counter)
print(draws_own_ids())
ray.remote(Counter)
print(draws_own_ids())
"""
_ORPHAN = """
from subprocess import DEVNULL, Popen
print(Popen(["ray::ServeController", "60"], executable="sleep", stdout=DEVNULL, stderr=DEVNULL).pid)
"""


def test_ids_drawn_before_a_fork_repeat_and_are_detected() -> None:
    done = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["True", "False"], done.stderr


@pytest.mark.parametrize("last_words", ["", "id"])
def test_fork_that_hangs_or_fails_draws_no_id(monkeypatch: pytest.MonkeyPatch, last_words: str) -> None:
    class Hanging:
        size = ray.WorkerID.size

        @staticmethod
        def from_random() -> None:
            if last_words:
                raise ValueError(last_words)
            threading.Event().wait(60)

    monkeypatch.setattr(ray, "WorkerID", Hanging)
    monkeypatch.setattr(ray_internals, "_FORK_S", 0.1)
    before = psutil.Process().children()
    assert not ray_internals.draws_own_ids()
    assert psutil.Process().children() == before


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


def test_controller_that_is_no_descendant_is_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    started = subprocess.run([sys.executable, "-c", _ORPHAN], capture_output=True, text=True, timeout=60, check=True)
    orphan = psutil.Process(int(started.stdout))
    assert orphan not in psutil.Process().children(recursive=True)
    node = ray_internals.LocalNode()
    for pid in (None, 2**30, os.getpid()):  # not known yet, of one that has ended, given to another process
        monkeypatch.setattr(node, "_controller_pid", pid)
        node.restart_controller()
    assert orphan.is_running()
    monkeypatch.setattr(node, "_controller_pid", orphan.pid)
    node.restart_controller()
    orphan.wait(10)


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
