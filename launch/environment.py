"""The environment of all processes of a local service: Ray's settings, import path, file permissions, signals."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""
_RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported from a user's machine
    # Seconds between the controller's looks at the replicas; at Serve's own .1 they take 3 % of a core at rest.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    # What only watches takes time from what renders: gauges of routers and replicas (every .1 s by Serve's own choice),
    # a look for new log files (.5 s), and events of every call, which nobody reads here.
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "1000",
    "LOG_NAME_UPDATE_INTERVAL_S": "5",
    "RAY_task_events_report_interval_ms": "0",
    # The proxy takes no more of a body than a window ahead of its reader.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "api.body_window:proxy_middlewares",
    # A replica whose work hangs is ended at once: Serve's own way waits for that work, up to 20 s, and the next replica
    # for the room that it takes.
    "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
    # Tracebacks without carets: to place them Python parses the line, and `media.array_files` says how that can end.
    "PYTHONNODEBUGRANGES": "1",
    # Nothing in the working directory is imported by any process.
    "PYTHONSAFEPATH": "1",
}
# Read when Ray is imported. Off, the node is 127.0.0.1 and Ray's own servers listen on loopback, its metrics among
# them; on, as it is on Linux, all of them listen on every address.
_RAY_IMPORT_SETTINGS = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def set_ray_variables() -> None:
    """Set Ray's settings for this process and those that it starts; variables that are set already stay."""
    os.environ.update(_RAY_SETTINGS | ({} if "ray" in sys.modules else _RAY_IMPORT_SETTINGS) | os.environ)


@contextmanager
def private_files() -> Iterator[None]:
    """Have the files of every process that is started in the block be nobody else's on this machine."""
    umask = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(umask)


@contextmanager
def python_path() -> Iterator[None]:
    """Have every process that is started in the block, and those that it starts, find this project.

    Ray's `runtime_env` does the same, and has each worker made anew for it: those that Ray keeps ready go unused, and a
    service of eight replicas comes up 4 s later.
    """
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), known)))
    try:
        yield
    finally:
        if known is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = known


@contextmanager
def restore_sigterm() -> Iterator[None]:
    """Have SIGTERM end this process as it did before the block, in which Ray installs what ends it at once."""
    known = signal.getsignal(signal.SIGTERM)
    yield
    if callable(known) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, known)
