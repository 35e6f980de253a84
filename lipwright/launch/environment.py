"""The environment of all processes of a local service: Ray's settings and private folder, import path, signals."""

from __future__ import annotations

import logging
import os
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

# A UNIX socket's path has at most 107 bytes (unix(7)). Below its folder, Ray uses up to 64 of them, as in
# `/session_2026-11-28_05-44-08_504690_4194304/sockets/plasma_store`.
_MAX_FOLDER_BYTES: Final = 107 - 64


def ray_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder that a service started with `environment` uses, in the place that Ray would choose."""
    place = environment.get("RAY_TMPDIR") or environment.get("TMPDIR") or "/tmp"
    return Path(place).absolute() / f"lipwright-{os.getuid()}" / "ray"


def make_ray_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Create the folder around Ray's, which only this user can enter, and return Ray's.

    If another user has created a folder of that name, a new one is used. Returns None, which means Ray's default, if
    the folder cannot be created or its path is too long for sockets.
    """
    folder = ray_folder(environment)
    try:
        around = folder.parent
        around.parent.mkdir(parents=True, exist_ok=True)
        if not is_made_private(around):
            around = Path(tempfile.mkdtemp(prefix="lipwright-", dir=around.parent))
        folder = around / folder.name
    except OSError as error:
        logger.warning("%s: cannot create Ray's folder, other users may read Ray's default one: %s", folder, error)
        return None
    if len(os.fsencode(folder)) > _MAX_FOLDER_BYTES:
        logger.warning("%s: too long for Ray's sockets; other users may read Ray's default folder", folder)
        return None
    return folder


def is_made_private(folder: Path) -> bool:
    """Create a folder for this user only, unless it exists; return False if it is not a folder of this user."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            return False
        folder.chmod(0o700)
    return True


ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""
NODE_SETTINGS: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime
    # OpenBLAS chooses its number of threads when NumPy is imported, before Ray sets OMP_NUM_THREADS. Its matrices are
    # small here, and its threads wait for each other in busy loops: on a busy machine, faces cost six times as much CPU
    # time with two.
    "OPENBLAS_NUM_THREADS": "1",
    # glibc gives the threads of a process up to eight arenas per core, and reuses freed memory in its arena only. In 18
    # jobs of a minute and one of an hour, Director grew from 65 to 76 MiB; with one arena it takes 58 to 61.
    "MALLOC_ARENA_MAX": "1",
    # The proxy reads a body at most one window ahead of its consumer.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "lipwright.api.body_window:proxy_middlewares",
    # A replica that hangs is killed at once: by default Serve waits up to 20 s for it, and the new replica waits for
    # its resources.
    "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
    # On a busy machine the proxy starts slowly: by default Serve kills one that is not ready in three times 5 s.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "20",
    # Tracebacks without carets: placing them parses the source line, which can crash (`lipwright.media.array_files`).
    "PYTHONNODEBUGRANGES": "1",
}
"""Variables of every node; `cluster/Containerfile` sets them for the nodes of a cluster."""
# Seconds between two loops of Serve's controller. Its default of .1 uses 2 % of a core more when idle.
_SINGLE_NODE_SETTINGS: Final = {"RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5"}
# Read when Ray is imported. If off, the node is 127.0.0.1 and Ray's servers, metrics included, listen on loopback; if
# on, the default on Linux, they listen on every address.
_RAY_IMPORT_SETTINGS = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def set_ray_variables() -> None:
    """Set the variables of a node that is the only one, for this process and those that it starts, unless set."""
    imported = {} if "ray" in sys.modules else _RAY_IMPORT_SETTINGS
    os.environ.update(NODE_SETTINGS | _SINGLE_NODE_SETTINGS | imported | os.environ)


@contextmanager
def private_files() -> Iterator[None]:
    """Make the files of processes started in the block private to this user."""
    umask = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(umask)


@contextmanager
def import_path() -> Iterator[None]:
    """Make processes started in the block import from the checkout and never from their working directory.

    Ray's `runtime_env` could set the path, too, but then Ray cannot use its prestarted workers, and a service of eight
    replicas starts 4 s later.
    """
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "PYTHONSAFEPATH")}
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), before["PYTHONPATH"])))
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        # Ray puts the working directory first on the path of every worker, and workers inherit it.
        with chdir(ROOT):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def restore_sigterm() -> Iterator[None]:
    """Restore the handler of SIGTERM after the block, in which Ray installs one that exits at once."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if callable(before) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)
