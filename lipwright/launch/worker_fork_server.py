"""A fork server for Ray's workers: imports what replicas need once, and forks instead of starting interpreters.

Importing Ray Serve and the graph takes 1.3 s of CPU time per process, and a service has twelve of them. Forks also
share the memory of what was imported.

Ray has no such option. Its raylet starts `forked_worker` in place of Ray's worker script, with the same arguments; that
script hands its arguments, environment and standard streams to this server and ends. The forked process then runs
Ray's script. Without this server, also when it has died, workers start the usual way, more slowly.

Nothing that is imported here may start threads, open connections or draw random numbers that children would share:

* onnxruntime and PyTorch are imported by the replicas that use them.
* Ray's C++ core reads RAY_RAYLET_PID and other variables when it is imported, which happens with the first request.
* Ray draws ids from a generator whose state forks share; see `ray_internals.ids_of_classes_from_system`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import psutil

from lipwright.launch.environment import ROOT
from lipwright.launch.forked_worker import OOM_SCORE_FILE, SCRIPT_VARIABLE, SOCKET_VARIABLE

WORKER_SCRIPT: Final = Path(__file__).with_name("forked_worker.py")
"""What the raylet has to start as a worker."""
# Imported while Ray's processes start: packages, some of them optional, and modules of replicas that do not import Ray.
_PACKAGES: Final = (
    *("aiohttp", "fastapi", "grpc", "httpx", "jsonschema", "librosa.core.spectrum", "librosa.filters"),
    *("opentelemetry.sdk.metrics", "pandas", "requests", "uvicorn"),
)
_WITHOUT_RAY: Final = (
    *(
        "lipwright.media.labels.labeller",
        "models.engines.catalog",
        "models.mouth.motion",
        "lipwright.rendering.live_renderer",
    ),
)
_WITH_RAY: Final = (
    *("ray._private.workers.default_worker", "ray.serve", "ray.serve._private.controller"),
    *("ray.serve._private.proxy", "ray.serve._private.replica", "graph"),
)
_REQUEST_S: Final = 10.0
_MAX_WAITING: Final = 256
_STOP_S: Final = 5.0


@dataclass(frozen=True)
class _Request:
    """A worker to start.

    Attributes:
        arguments: Its `sys.argv`; the first one is the path of Ray's worker script.
        environment: Its environment.
        folder: Its working directory.
        oom_score_adj: The content of its `OOM_SCORE_FILE`.
    """

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    oom_score_adj: str


@contextmanager
def worker_fork_server(folder: Path, ray_script: Path, log: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a fork server for the block, and set the variables by which `forked_worker` finds it. Yields its process.

    It is not restarted when it dies: workers start without it.

    Args:
        folder: Where its socket is created; only this user may enter it.
        ray_script: Ray's worker script.
        log: Where it reports errors; None: the standard error of this process.
    """
    _remove_stale_sockets(folder)
    path = folder / f"fork-{os.getpid()}.sock"
    path.unlink(missing_ok=True)
    path_of_imports = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with socket.socket(socket.AF_UNIX) as listener, nullcontext() if log is None else log.open("ab") as errors:
        listener.bind(str(path))
        listener.listen(_MAX_WAITING)
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(listener.fileno())],
            env={**os.environ, "PYTHONPATH": path_of_imports},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=[listener.fileno()],
            process_group=0,  # Ctrl-C is for this process
        )
    os.environ[SOCKET_VARIABLE], os.environ[SCRIPT_VARIABLE] = str(path), str(ray_script)
    try:
        yield server
    finally:
        del os.environ[SOCKET_VARIABLE], os.environ[SCRIPT_VARIABLE]
        path.unlink(missing_ok=True)
        _stop(server)


def _remove_stale_sockets(folder: Path) -> None:
    """Remove the sockets of services that were killed.

    The process id in the name may be of a container that shares the folder, so a socket that accepts is kept.
    """
    for path in folder.glob("fork-*.sock"):
        process_id = path.stem.removeprefix("fork-")
        if not process_id.isdecimal() or psutil.pid_exists(int(process_id)):
            continue
        with socket.socket(socket.AF_UNIX) as connection:
            connection.setblocking(False)
            try:
                connection.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                continue  # it is removed just now, or its queue is full


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server by closing its input."""
    try:
        server.communicate(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait(_STOP_S)


def main() -> None:
    """Serve requests on the listening socket with the file descriptor `sys.argv[1]` until the standard input ends."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    for package in _PACKAGES:
        with suppress(ModuleNotFoundError):
            importlib.import_module(package)
    for module in _WITHOUT_RAY:
        importlib.import_module(module)
    request, files = _next_worker(listener)
    _become(request, files)


def _next_worker(listener: socket.socket) -> tuple[_Request, list[int]]:
    """Fork for each request. Returns in the forked processes, and ends the server with its standard input."""
    is_loaded = False
    while True:
        readable, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in readable:
            sys.exit()
        connection, _ = listener.accept()
        files: list[int] = []
        with connection:
            try:
                connection.settimeout(_REQUEST_S)
                size, files, _, _ = socket.recv_fds(connection, 4, 3)
                request = _read(connection, int.from_bytes(size, "big"))
                if not is_loaded:
                    _import_ray(request.environment)
                    is_loaded = True
                is_worker = os.fork() == 0
            except (OSError, ValueError) as error:  # the asking process has ended, or the machine is out of processes
                print(f"fork server: no worker started: {error!r}", file=sys.stderr, flush=True)
                is_worker = False
            if is_worker:
                listener.close()
                connection.sendall(b"1")
                return request, files
        for file in files:
            os.close(file)


def _read(connection: socket.socket, num_bytes: int) -> _Request:
    with connection.makefile("rb") as stream:
        return _Request(**json.loads(stream.read(num_bytes)))


def _import_ray(environment: dict[str, str]) -> None:
    """Import Ray and the graph with the environment of the first worker; only the job's id differs between workers."""
    os.environ.clear()
    os.environ.update(environment)
    from deployments.runtime.ray_internals import draws_own_ids, ids_of_classes_from_system

    with ids_of_classes_from_system():
        for module in _WITH_RAY:
            importlib.import_module(module)
    # Garbage collections of the forked processes would write to, and so copy, the pages of all objects.
    gc.collect()
    gc.freeze()
    if not draws_own_ids():
        sys.exit("fork server: forked processes would draw the same ids; workers start without it")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for workers


def _become(request: _Request, files: list[int]) -> NoReturn:
    """Run Ray's worker script in this forked process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setpgid(0, 0)  # the raylet ends the process group of a worker that has ended
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)
    with suppress(PermissionError), open(OOM_SCORE_FILE, "w") as score:  # lowering it needs a privilege
        score.write(request.oom_score_adj)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    sys.argv[:] = request.arguments
    runpy.run_path(sys.argv[0], run_name="__main__")
    sys.exit()


if __name__ == "__main__":
    main()
