"""The data folder at the start: one service uses it; what the watchdog does when it or a process is lost."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from lipwright.errors import ConfigError, StateError
from lipwright.launch.data_folder import Holder, TableFile, checked_table, holder_of, locked_folder
from lipwright.launch.preflight import check_port
from lipwright.launch.readiness import free_port, try_to_listen
from lipwright.launch.watchdog import EXIT_STATUS, watchdog
from lipwright.storage.job_table import JobTable
from lipwright.storage.sqlite.database import Database
from tests.unit.cli.commands import run
from tests.waiting import wait_until


def test_locked_folder_in_use_names_its_holder(tmp_path: Path) -> None:
    assert holder_of(tmp_path / "data") is None
    with locked_folder(tmp_path / "data") as lock:
        assert holder_of(tmp_path / "data") == Holder(os.getpid(), "")
        starting = f"data: a service that is starting .process {os.getpid()}. already uses"
        with pytest.raises(StateError, match=starting), locked_folder(tmp_path / "data"):
            pass
        lock.publish_url("http://127.0.0.1:8000")
        assert holder_of(tmp_path / "data") == Holder(os.getpid(), "http://127.0.0.1:8000")
        with pytest.raises(StateError, match="a service at http://127.0.0.1:8000"), locked_folder(tmp_path / "data"):
            pass
    assert holder_of(tmp_path / "data") is None
    with locked_folder(tmp_path / "data"):
        pass


def test_check_port_in_use_is_refused() -> None:
    # As Ray Serve's proxy: with `reuse_port`, a second listener would be let in.
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError):
            try_to_listen("127.0.0.1", port)
        with pytest.raises(ConfigError, match=f"--port {port}: Address already in use"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", free_port())


@pytest.mark.parametrize(("mode", "expected"), [(0o755, 0o700), (0o1777, 0o1777)])
def test_locked_folder_is_made_private_unless_sticky(tmp_path: Path, mode: int, expected: int) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(mode)
    with locked_folder(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == expected


def test_checked_table_reports_a_deleted_or_replaced_table(tmp_path: Path) -> None:
    table = checked_table(tmp_path / "data", None)
    assert stat.S_IMODE(table.path.parent.stat().st_mode) == 0o700
    assert table.loss() == ""
    JobTable(Database(table.path)).close()
    assert table.loss() == "", "it is the same file after others used it"
    table.path.rename(tmp_path / "old")
    assert table.loss().endswith("was deleted while the service was running")
    checked_table(tmp_path / "data", None)
    assert table.loss().endswith("was replaced while the service was running")


@pytest.mark.parametrize(
    ("damage", "name", "content"),
    [
        ("no folder", "", "a file"),
        ("no table", "jobs.sqlite3/folder", ""),
        ("damaged table", "jobs.sqlite3", "no database" * 1000),
        ("no uploads", "uploads", "a file"),
    ],
)
def test_serve_unusable_data_folder_is_one_error_line(tmp_path: Path, damage: str, name: str, content: str) -> None:
    data = tmp_path / "data"
    file = data / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    done = run("serve", "--data-dir", str(data), "--port", "0")
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: config_invalid: ") and str(data) in line, line
    assert "--data-dir" in line or damage == "damaged table", line
    assert ("not a folder" in line) == (damage == "no folder"), line


def test_locked_folder_that_cannot_be_made_is_refused() -> None:
    message = r"^/proc/.*: cannot write here .*--data-dir"
    with pytest.raises(ConfigError, match=message), locked_folder(Path("/proc/lipwright")):
        raise AssertionError("nobody can write there")


def _run_mounted(mount: str, code: str, folder: Path, repo_root: Path) -> subprocess.CompletedProcess[str]:
    """Run code with a folder as argument, in a name space with other mounts, where this user may make one."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("needs user name spaces (unshare -rm)")
    command = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-c", code, str(folder)]
    return subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=120, env=os.environ)


def test_checked_table_on_a_read_only_disk_is_refused(tmp_path: Path, repo_root: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lipwright.launch.data_folder import checked_table\n"
        "try: checked_table(Path(sys.argv[1]))\nexcept Exception as error: print(type(error).__name__, error)"
    )
    (tmp_path / "uploads").mkdir()
    for before in ("true", f'mkdir -m 700 "{tmp_path}"/uploads "{tmp_path}"/jobs "{tmp_path}"/avatars'):
        mount = f'mount -t tmpfs none "{tmp_path}" && {before} && mount -o remount,ro "{tmp_path}"'
        done = _run_mounted(mount, code, tmp_path, repo_root)
        assert done.stdout.startswith("ConfigError ") and "(Read-only file system)" in done.stdout, done.stderr


def test_table_with_space_waits_while_the_disk_is_full(tmp_path: Path, repo_root: Path) -> None:
    mount = f'mount -t tmpfs -o size=2m none "{tmp_path}"'
    done = _run_mounted(mount, _START_ON_A_FULL_DISK, tmp_path, repo_root)
    assert done.stdout.splitlines() == [
        f"StorageFullError: {tmp_path}: the disk is full. Free disk space, then start the service again.",
        f"{tmp_path}: the disk is full. Waiting up to 60 s for disk space before the service starts.",
        "started",
    ], done.stderr


def test_serve_without_disk_space_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = Mock(side_effect=ConfigError("the end of this test"))
    monkeypatch.setattr("lipwright.launch.service._run_front", end)
    config = tmp_path / "config.yaml"
    config.write_text("jobs: {min_free_bytes: 1000000000000000}")
    done = run("serve", "--data-dir", str(tmp_path / "data"), "--port", "0", "--config", str(config))
    assert done.stdout == "Starting Lipwright ...\n"
    first, second = done.stderr.splitlines()
    assert first.startswith(f"No disk space for jobs: {tmp_path / 'data'} has ") and "jobs.min_free_bytes" in first
    assert second == "error: config_invalid: the end of this test"


_START_ON_A_FULL_DISK = """
import sys, threading
from contextlib import suppress
from pathlib import Path
from lipwright.errors import StorageFullError
from lipwright.launch.data_folder import table_with_space

data = Path(sys.argv[1])
table_with_space(data, None, 0, print)
filler = data / "filler"
with suppress(OSError), filler.open("wb", buffering=0) as file:
    while file.write(bytes(4096)):
        pass
try:
    table_with_space(data, None, 0, lambda line: None)
except StorageFullError as error:
    print(f"StorageFullError: {error}")
threading.Timer(0.5, filler.unlink).start()
table_with_space(data, None, 60, print)
print("started")
"""


class QuietNode:
    """A node whose processes run; Serve's controller answers again after a restart."""

    def __init__(self) -> None:
        self.silence_s = 0.0
        self.num_restarts = 0

    def dead_processes(self) -> list[str]:
        return []

    def kill(self) -> None:
        raise AssertionError("nothing has ended")

    def controller_silence_s(self) -> float:
        return self.silence_s

    def restart_controller(self) -> None:
        self.num_restarts += 1
        self.silence_s = 0.0


@pytest.fixture(autouse=True)
def _quick_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lipwright.launch.watchdog._PERIOD_S", 0.01)


@pytest.mark.parametrize(("silence_s", "num_restarts"), [(59.0, 0), (61.0, 1)])
def test_watchdog_silent_controller_is_restarted_once(tmp_path: Path, silence_s: float, num_restarts: int) -> None:
    node = QuietNode()
    with watchdog(node, None, TableFile(tmp_path, None)):
        time.sleep(0.05)
        node.silence_s = silence_s
        if num_restarts:
            wait_until(lambda: node.num_restarts)
        time.sleep(0.1)
    assert node.num_restarts == num_restarts


def test_watchdog_restarts_the_front_proxy_after_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    front = Mock(is_alive=False)

    def start() -> None:
        if front.start.call_count < 3:
            raise OSError("Cannot allocate memory")
        front.is_alive = True

    front.start.side_effect = start
    front.last_line.return_value = "killed"
    node = QuietNode()
    with watchdog(node, front, TableFile(tmp_path, None)):
        wait_until(lambda: front.is_alive)
        node.silence_s = 61.0
        wait_until(lambda: node.num_restarts)  # the other processes are still watched
    assert sum("Cannot allocate memory" in message for message in caplog.messages) == 2


_DELETES_THE_TABLE = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from lipwright.launch.data_folder import checked_table
from lipwright.launch.watchdog import watchdog

table = checked_table(Path(sys.argv[1]))
with watchdog(SimpleNamespace(dead_processes=list, controller_silence_s=float, kill=list), None, table):
    table.path.unlink()
    time.sleep(60)
"""


def test_watchdog_ends_the_process_of_a_deleted_job_table(tmp_path: Path, repo_root: Path) -> None:
    command = [sys.executable, "-c", _DELETES_THE_TABLE, str(tmp_path)]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == EXIT_STATUS, done.stderr
    assert f"Lipwright exits: the job table {tmp_path / 'jobs.sqlite3'} was deleted" in done.stderr
