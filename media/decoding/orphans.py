"""What a nursery that was killed has left: its decoders die with it, what they started may not."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable

_NURSERY = b"media.decoding.nursery"  # in the command of nurseries and of all that they fork


def end_orphans(decoders: Iterable[int]) -> None:
    """Kill those of `decoders` (processes) that neither a nursery nor a decoder has for a child any more.

    A decoder with a seccomp filter starts nothing; this is for systems that lack it.
    """
    for pid in decoders:
        with contextlib.suppress(OSError, ValueError, IndexError):  # it is gone, or another user's
            if not _is_of_nursery(_parent_of(pid)):
                os.kill(pid, signal.SIGKILL)


def _parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])  # proc(5): the name may hold anything


def _is_of_nursery(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return _NURSERY in file.read()
    except FileNotFoundError:
        return False
