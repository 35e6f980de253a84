"""The data folder at the start: what cannot be used is said in one line, and one service uses it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from errors import ConfigError, StateError
from launch.data_folder import Holder, checked_table, holder_of, locked_folder
from launch.preflight import check_port
from launch.readiness import free_port, try_to_listen
from storage.job_table import JobTable
from storage.sqlite.database import Database

HOLDS = """
import sys, pathlib, time
from launch.data_folder import locked_folder
with locked_folder(pathlib.Path(sys.argv[1])) as lock:
    lock.publish_url("http://127.0.0.1:1")
    print("held", flush=True)
    time.sleep(600)
"""


def test_locked_folder_in_use_names_its_holder(tmp_path: Path) -> None:
    assert holder_of(tmp_path / "data") is None
    with locked_folder(tmp_path / "data") as lock:
        assert holder_of(tmp_path / "data") == Holder(os.getpid(), "")
        with (
            pytest.raises(StateError, match=f"data: a service that is starting .process {os.getpid()}. already uses"),
            locked_folder(tmp_path / "data"),
        ):
            pass
        lock.publish_url("http://127.0.0.1:8000")
        with pytest.raises(StateError, match="a service at http://127.0.0.1:8000"), locked_folder(tmp_path / "data"):
            pass
    assert holder_of(tmp_path / "data") is None
    with locked_folder(tmp_path / "data"):
        pass


def test_locked_folder_of_a_killed_process_is_free(repo_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, cwd=repo_root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        assert holder_of(tmp_path) == Holder(process.pid, "http://127.0.0.1:1")
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert holder_of(tmp_path) is None


def test_check_port_in_use_is_refused() -> None:
    import socket

    with socket.socket() as listener:
        # As Ray Serve's proxy: with it, a second listener would be let in.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
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


def _damage(data: Path, name: str, content: str | None) -> None:
    """Put a file of that content into a new data folder, or a folder in its place."""
    data.mkdir()
    if content is None:
        (data / name).mkdir()
    else:
        (data / name).write_text(content)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "no folder": lambda data: data.write_text("a file"),
    "no table": lambda data: _damage(data, "jobs.sqlite3", None),
    "damaged table": lambda data: _damage(data, "jobs.sqlite3", "no database" * 1000),
    "no uploads": lambda data: _damage(data, "uploads", "a file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_serve_unusable_data_folder_is_one_error_line(tmp_path: Path, damage: str) -> None:
    data = tmp_path / "data"
    DAMAGES[damage](data)
    done = CliRunner().invoke(app, ["serve", "--data-dir", str(data), "--port", "0"])
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert (
        line.startswith("error: config_invalid: ")
        and str(data) in line
        and ("--data-dir" in line or damage == "damaged table")
    ), line
    assert ("not a folder" in line) == (damage == "no folder"), line


def test_locked_folder_that_cannot_be_made_is_refused() -> None:
    message = r"^/proc/.*: cannot write here .*--data-dir"
    with pytest.raises(ConfigError, match=message), locked_folder(Path("/proc/lipwright")):
        raise AssertionError("nobody can write there")


def test_checked_table_on_a_read_only_disk_is_refused(tmp_path: Path, repo_root: Path) -> None:
    """In a name space of its own, where this user may mount one."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("needs user name spaces (unshare -rm)")
    code = (
        "from pathlib import Path; from launch.data_folder import checked_table\n"
        f"try: checked_table(Path({str(tmp_path)!r}))\nexcept Exception as error: print(type(error).__name__, error)"
    )
    (tmp_path / "uploads").mkdir()
    mount = f'mount -t tmpfs none "{tmp_path}" && {{0}} && mount -o remount,ro "{tmp_path}" && "$@"'
    for before in ("true", f'mkdir -m 700 "{tmp_path}"/uploads "{tmp_path}"/jobs "{tmp_path}"/avatars'):
        command = ["unshare", "-rm", "sh", "-c", mount.format(before), "sh", sys.executable, "-c", code]
        done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=120, env=os.environ)
        assert done.stdout.startswith("ConfigError ") and "(Read-only file system)" in done.stdout, done.stderr


def test_table_with_space_waits_while_the_disk_is_full(tmp_path: Path, repo_root: Path) -> None:
    """On a small disk in a name space of its own, where this user may mount one."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("needs user name spaces (unshare -rm)")
    mount = f'mount -t tmpfs -o size=2m none "{tmp_path}" && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", sys.executable, "-c", _START_ON_A_FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.stdout.splitlines() == [
        f"StorageFullError: {tmp_path}: the disk is full.",
        f"{tmp_path}: the disk is full. Waiting up to 60 s for disk space before the service starts.",
        "started",
    ], done.stderr


def test_serve_without_disk_space_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*arguments: object) -> None:
        raise ConfigError("the end of this test")

    monkeypatch.setattr("launch.service._run_front", end)
    config = tmp_path / "config.yaml"
    config.write_text("jobs: {min_free_bytes: 1000000000000000}")
    options = ["--data-dir", str(tmp_path / "data"), "--port", "0", "--config", str(config)]
    done = CliRunner().invoke(app, ["serve", *options])
    assert done.stdout == "Starting Lipwright ...\n"
    first, second = done.stderr.splitlines()
    assert first.startswith(f"No disk space for jobs: {tmp_path / 'data'} has ") and "jobs.min_free_bytes" in first
    assert second == "error: config_invalid: the end of this test"


_START_ON_A_FULL_DISK = """
import sys, threading
from pathlib import Path
from errors import StorageFullError
from launch.data_folder import table_with_space

data = Path(sys.argv[1])
table_with_space(data, None, 0, print)
filler = data / "filler"
with filler.open("wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)):
            pass
    except OSError:
        pass
try:
    table_with_space(data, None, 0, lambda line: None)
except StorageFullError as error:
    print(f"StorageFullError: {error}")
threading.Timer(0.5, filler.unlink).start()
table_with_space(data, None, 60, print)
print("started")
"""
