"""Client of the fork server (`lipwright.media.decoding.forkserver`)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[3]
_START: Final = (
    "import sys; from lipwright.media.decoding.forkserver import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])"
)
_END_S: Final = 5.0
_KEPT_VARIABLES: Final = frozenset(
    ("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
)
"""Environment variables that decoders need; the others may hold secrets."""


class ForkserverClient:
    """Starts the fork server on first use, and again if it has died. Thread-safe.

    All decoders of one group on this machine share `max_shared_bytes` of memory. Their priority is lowered by
    `niceness`. The fork server imports `modules`, which must not start threads.
    """

    def __init__(self, max_shared_bytes: int, group: str, niceness: int = 0, modules: Sequence[str] = ()) -> None:
        self._max_shared_bytes, self._group, self._niceness = max_shared_bytes, group, niceness
        self._modules = modules
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def warm(self) -> None:
        """Start the fork server."""
        with self._lock:
            self._start_server()

    def fork(self, theirs: socket.socket) -> bool:
        """Fork a decoder that holds a copy of `theirs`; False if the fork server could not be started."""
        for _ in range(2):
            with self._lock:
                try:
                    socket.send_fds(self._start_server(), [b"f"], [theirs.fileno()])
                    return True
                except OSError:  # it has died; the next attempt starts another
                    self._end()
        return False

    def close(self) -> None:
        """Stop the fork server and all its decoders."""
        with self._lock:
            self._end()

    def _start_server(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._control is None:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-P",
                        "-c",
                        _START,
                        str(theirs.fileno()),
                        str(self._max_shared_bytes),
                        self._group,
                        *self._modules,
                    ],
                    stdin=subprocess.DEVNULL,
                    env=_environment(),
                    pass_fds=[theirs.fileno()],
                )
                priority = os.getpriority(os.PRIO_PROCESS, 0) + self._niceness
                os.setpriority(os.PRIO_PROCESS, self._process.pid, priority)  # decoders are forked later
        return self._control

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._control = self._process = None


def _environment() -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if name in _KEPT_VARIABLES},
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))),
        # A process with threads cannot be forked safely, so no BLAS may start any.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
