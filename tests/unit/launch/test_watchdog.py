"""When Serve's controller is restarted; tests/faults covers the processes whose end is the end of the service."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.data_folder import TableFile
from launch.watchdog import EXIT_STATUS, watchdog
from telemetry.clock_steps import ClockSteps


class QuietNode:
    """A node whose processes run; Serve's controller answers again after a restart."""

    def __init__(self) -> None:
        self.silence_s = 0.0
        self.num_restarts = 0

    def dead_processes(self) -> list[tuple[str, int]]:
        return []

    def kill(self) -> None:
        raise AssertionError("nothing has ended")

    def controller_silence_s(self) -> float:
        return self.silence_s

    def restart_controller(self) -> None:
        self.num_restarts += 1
        self.silence_s = 0.0


class SetClock:
    """A wall clock that can be set."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@pytest.mark.parametrize(
    ("silence_s", "ahead_s", "num_restarts"),
    [(59.0, 0.0, 0), (61.0, 0.0, 1), (0.0, 3600.0, 0), (0.0, -1.0, 0), (0.0, -3600.0, 1)],
)
def test_watchdog_silent_controller_is_restarted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silence_s: float, ahead_s: float, num_restarts: int
) -> None:
    monkeypatch.setattr("launch.watchdog._PERIOD_S", 0.01)
    node, clock = QuietNode(), SetClock()
    with watchdog(node, None, TableFile(tmp_path, None), clock=ClockSteps(clock)):
        time.sleep(0.05)
        node.silence_s, clock.ahead_s = silence_s, ahead_s
        deadline = time.monotonic() + (10.0 if num_restarts else 0.1)
        while node.num_restarts < max(1, num_restarts) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
    assert node.num_restarts == num_restarts


def test_watchdog_reports_the_end_of_the_fork_server_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("launch.watchdog._PERIOD_S", 0.01)
    with subprocess.Popen(["sleep", "60"]) as server, watchdog(QuietNode(), None, TableFile(tmp_path, None), server):
        time.sleep(0.05)
        assert caplog.messages == []
        server.kill()
        deadline = time.monotonic() + 10
        while not caplog.messages and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
    (message,) = caplog.messages
    assert "fork server of workers has ended (status -9)" in message


_DELETES_THE_TABLE = """
import sys, time
from pathlib import Path
from launch.data_folder import checked_table
from launch.watchdog import watchdog
from tests.unit.launch.test_watchdog import QuietNode

table = checked_table(Path(sys.argv[1]))
with watchdog(QuietNode(), None, table):
    table.path.unlink()
    time.sleep(60)
"""


def test_watchdog_ends_the_process_of_a_deleted_job_table(tmp_path: Path, repo_root: Path) -> None:
    command = [sys.executable, "-c", _DELETES_THE_TABLE, str(tmp_path)]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == EXIT_STATUS, done.stderr
    assert f"Lipwright exits: the job table {tmp_path / 'jobs.sqlite3'} was deleted" in done.stderr
