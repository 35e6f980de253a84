"""The one bound on memory that all decoders of a machine share."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterable, Iterator
from typing import Final

from media.decoding.machine_memory import memory_bytes

CHECK_S: Final = 0.05
"""Between two looks; filling a gigabyte takes a third of a second."""
_NAME: Final = "lipwright-"
_MAX_NAME_BYTES: Final = 15  # prctl(2), PR_SET_NAME
_PR_SET_NAME: Final = 15
_UNNOTICED_SHARE: Final = 1 / 8
"""A decoder below this share of the bound is not worth a look at the whole machine."""


def budget_bytes(configured: int) -> int:
    """The bound that holds: a setting cannot promise decoders more than half of what this machine has."""
    return min(configured, memory_bytes() // 2)


class MemoryBudget:
    """Says which of one's own decoders has to go, so that all decoders of the machine stay within the bound.

    Args:
        max_bytes: Memory of all decoders together.
        group: Which decoders of the machine are counted; five letters.
    """

    def __init__(self, max_bytes: int, group: str) -> None:
        self._max_bytes = max_bytes
        self._name = f"{_NAME}{group}".encode()[:_MAX_NAME_BYTES]

    def passed_by(self, own: Iterable[int]) -> tuple[int, int] | None:
        """(process, its bytes): the largest of `own` if the bound is passed and no other decoder is larger."""
        largest, num_bytes = max(((pid, used_bytes(pid)) for pid in own), key=lambda entry: entry[1], default=(0, 0))
        if num_bytes < self._max_bytes * _UNNOTICED_SHARE:
            return None
        used = [used_bytes(pid) for pid in self.decoders()]
        return (largest, num_bytes) if sum(used) > self._max_bytes and num_bytes >= max(used) else None

    def is_too_much(self, num_bytes: int) -> bool:
        """Whether one decoder alone took so much that the bound was passed by it and not by their number."""
        return num_bytes > self._max_bytes / 2

    def join(self) -> None:
        """Give this process the name by which forkservers of other processes know it as a decoder of the group."""
        ctypes.CDLL(None).prctl(_PR_SET_NAME, self._name, 0, 0, 0)

    def decoders(self) -> Iterator[int]:
        """Processes of the group on this machine."""
        for number in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{number}/comm", "rb") as file:
                if file.read().rstrip() == self._name:
                    yield int(number)


def used_bytes(pid: int) -> int:
    """Memory that a process alone has: its anonymous and its shared pages, in bytes; 0 if it is gone.

    Memory files are not counted: a decoder has only those that it was given, whose size is fixed.
    """
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/status") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(("RssAnon:", "RssShmem:")))
    return 0
