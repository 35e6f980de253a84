"""What a forkserver that was killed has left: its decoders die with it, what they started may not."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable

_FORKSERVER = b"media.decoding.forkserver"  # in the command of forkservers and of all that they fork


def kill_orphans(decoders: Iterable[int]) -> None:
    """Kill those of `decoders` (processes) that neither a forkserver nor a decoder has for a child any more.

    A decoder with a seccomp filter starts nothing; this is for systems that lack it.
    """
    for pid in decoders:
        with contextlib.suppress(OSError, ValueError, IndexError):  # it is gone, or another user's
            if not _is_of_forkserver(_parent_of(pid)):
                os.kill(pid, signal.SIGKILL)


def _parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])  # proc(5): the name may hold anything


def _is_of_forkserver(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return _FORKSERVER in file.read()
    except FileNotFoundError:
        return False
