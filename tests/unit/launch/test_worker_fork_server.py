"""Workers of Ray are forked from a process that has imported Ray and the graph, or start without it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import pytest

from launch.environment import import_path, set_ray_variables
from launch.forked_worker import SCRIPT_VARIABLE, SOCKET_VARIABLE
from launch.worker_fork_server import WORKER_SCRIPT, worker_fork_server

_SCRIPT = """
import json, os, sys
import numpy as np
import ray
before = len(os.listdir("/proc/self/task"))
np.linalg.solve(np.eye(500), np.ones(500))
names = [name for name in ("graph", "ray.serve", "onnxruntime", "torch") if name in sys.modules]
print(json.dumps({
    "arguments": sys.argv, "modules": names, "drawn": ray.WorkerID.from_random().hex(), "pid": os.getpid(),
    "group": os.getpgid(0), "folder": os.getcwd(), "variable": os.environ.get("OF_ONE_WORKER"),
    "oom_score_adj": int(open("/proc/self/oom_score_adj").read()),
    "num_blas_threads": 1 + len(os.listdir("/proc/self/task")) - before,
}))
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:  # the path of a socket is short
        (Path(path) / "script.py").write_text(_SCRIPT)
        yield Path(path).resolve()


def _started(folder: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    """Return what a worker says of itself."""
    set_score = 'echo 900 > /proc/self/oom_score_adj; exec "$0" "$@"'  # as the raylet does
    command, variables = (
        ["sh", "-c", set_score, sys.executable, str(WORKER_SCRIPT), *arguments],
        os.environ | environment,
    )
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_worker_fork_server_forks_workers_with_own_arguments(folder: Path) -> None:
    script = folder / "script.py"
    of_other_tests = set(psutil.Process().children())
    with patch.dict(os.environ), import_path():
        set_ray_variables()
        with worker_fork_server(folder, script, folder / "log"):
            (server,) = set(psutil.Process().children()) - of_other_tests
            first = _started(folder, "--worker-id=1", OF_ONE_WORKER="one")
            second = _started(folder, "--worker-id=2")
            # A fork has none of the other threads, and the locks that they held stay locked.
            assert server.num_threads() == 1
            assert SOCKET_VARIABLE in os.environ
        assert SOCKET_VARIABLE not in os.environ
    assert (folder / "log").read_text() == ""
    assert first["drawn"] != second["drawn"]
    assert first["num_blas_threads"] == 1
    for said, number, variable in ((first, 1, "one"), (second, 2, None)):
        assert said["arguments"] == [str(script), f"--worker-id={number}"] and said["variable"] == variable
        assert said["group"] == said["pid"] != server.pid, "the raylet ends a worker together with its process group"
        assert (said["folder"], said["modules"]) == (str(folder), ["graph", "ray.serve"])
        assert said["oom_score_adj"] == 900
    assert not server.is_running()
    assert [each.name for each in folder.glob("*.sock")] == []


def test_worker_fork_server_removes_sockets_of_killed_ones(folder: Path) -> None:
    ended = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, timeout=60, check=True)
    pids = int(ended.stdout), 2**30, os.getppid()
    gone, in_container, running = (folder / f"fork-{pid}.sock" for pid in pids)
    with socket.socket(socket.AF_UNIX) as closed, socket.socket(socket.AF_UNIX) as listener:
        closed.bind(str(gone))
        listener.bind(str(in_container))
        listener.listen()
        running.touch()  # it has not listened yet, or its fork server has ended
        with worker_fork_server(folder, folder / "script.py", folder / "log"):
            assert {gone, in_container, running} & set(folder.glob("*.sock")) == {in_container, running}
    for path in (in_container, running):
        path.unlink()


def test_worker_without_a_living_fork_server_starts_itself(folder: Path) -> None:
    with patch.dict(os.environ), worker_fork_server(folder, folder / "script.py", folder / "log") as server:
        server.kill()
        server.wait(10)
        assert _started(folder, "--worker-id=4")["modules"] == []
    assert [each.name for each in folder.glob("*.sock")] == []


def test_worker_with_refused_socket_starts_itself(folder: Path) -> None:
    path = folder / "gone.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))  # and refuses connections once it is closed
    variables = {SOCKET_VARIABLE: str(path), SCRIPT_VARIABLE: str(folder / "script.py")}
    said = _started(folder, "--worker-id=3", **variables)
    assert said["arguments"] == [str(folder / "script.py"), "--worker-id=3"] and said["modules"] == []
