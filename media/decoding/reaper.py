"""Cleans up after a killed fork server: its decoders die with it, but processes they started may not."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable

_FORKSERVER = b"media.decoding.forkserver"  # in the command line of fork servers and of all that they fork


def kill_orphans(decoders: Iterable[int]) -> None:
    """Kills those of `decoders` (process ids) whose parent is neither a fork server nor a decoder.

    Decoders with a seccomp filter cannot start processes; this is for systems without it.
    """
    for pid in decoders:
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has exited, or belongs to another user
            if not _is_of_forkserver(_parent_of(pid)):
                os.kill(pid, signal.SIGKILL)


def _parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])  # proc(5): the name may contain anything


def _is_of_forkserver(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return _FORKSERVER in file.read()
    except FileNotFoundError:
        return False
