"""One service a data folder."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from errors import ConfigError, StateError
from launch.folder_lock import Holder, holder_of, locked_folder
from launch.port import free_port, try_to_listen
from launch.preflight import check_port

HOLDS = """
import sys, pathlib, time
from launch.folder_lock import locked_folder
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
