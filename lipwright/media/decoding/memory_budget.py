"""The memory of decoder processes: settings of glibc's malloc, and the budget that all on a machine share."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

# malloc.h
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_FRAME_BYTES: Final = 256 * 1024
_MAX_ARENAS: Final = 2
_MAX_MAPPED_BYTES: Final = 32 * 1024**2  # the largest threshold that glibc accepts
_KEPT_BYTES: Final = 256 * 1024**2  # more than the encoder of a 1080p segment frees at its end
_LARGE_BYTES: Final = 8 * 1024**2


def release_freed_frames() -> None:
    """Make this process return freed blocks of a frame's size to the system.

    glibc raises its mmap threshold to the largest block that was ever freed, and keeps an arena per thread: the frames
    of one job would stay with the process, scattered over the arenas. Does nothing without glibc.
    """
    _tune_malloc((_M_MMAP_THRESHOLD, _FRAME_BYTES), (_M_ARENA_MAX, _MAX_ARENAS))


def retain_freed_buffers() -> None:
    """Make this process keep up to 256 MiB of freed memory for the next buffers.

    For work that allocates and frees many buffers of 0.1 to 4 MB: faces, chunks of crops, the encoder of each segment.
    Mapping and clearing each of them again costs a quarter of the time of a face at 1080p, and a tenth of Studio's.
    One arena, because glibc always trims the others. Does nothing without glibc.
    """
    _tune_malloc((_M_MMAP_THRESHOLD, _MAX_MAPPED_BYTES), (_M_TRIM_THRESHOLD, _KEPT_BYTES), (_M_ARENA_MAX, 1))


def release_large_arrays() -> None:
    """Make this process return freed blocks of 8 MiB or more to the system, such as the landmarks of an avatar.

    Otherwise glibc soon keeps blocks of up to 32 MiB, scattered over the arenas of all threads, and the process grows
    with every new avatar. With a threshold of 4 MiB, loading avatars takes half as much CPU time again
    (docs/experiments.md). Does nothing without glibc.
    """
    _tune_malloc((_M_MMAP_THRESHOLD, _LARGE_BYTES), (_M_ARENA_MAX, 1))


def _tune_malloc(*settings: tuple[int, int]) -> None:
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in settings:
            mallopt(parameter, value)


_CGROUP: Final = Path("/sys/fs/cgroup")
CHECK_S: Final = 0.05
"""Interval between two checks; filling a gigabyte takes a third of a second."""
_NAME: Final = "lipwright-"
_MAX_NAME_BYTES: Final = 15  # prctl(2), PR_SET_NAME
_PR_SET_NAME: Final = 15
_UNNOTICED_SHARE: Final = 1 / 8
"""Decoders below this share of the budget do not trigger a scan of all processes."""


def memory_bytes(cgroup: Path = _CGROUP) -> int:
    """Return the memory of this machine in bytes, or the limit of this container if that is lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = (cgroup / "memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def budget_bytes(configured: int) -> int:
    """Return the effective budget in bytes: `configured`, but at most half of the machine's memory."""
    return min(configured, memory_bytes() // 2)


class MemoryBudget:
    """Selects which decoder to kill so that the decoders of one group on this machine stay within the budget.

    Decoders of a group are found by their process name, so its name has at most five letters.
    """

    def __init__(self, max_bytes: int, group: str) -> None:
        self._max_bytes = max_bytes
        self._name = f"{_NAME}{group}".encode()[:_MAX_NAME_BYTES]

    def passed_by(self, own: Iterable[int]) -> tuple[int, int] | None:
        """Return (process, bytes) of the largest of `own` if the budget is exceeded and no other decoder is larger."""
        largest, num_bytes = max(((pid, used_bytes(pid)) for pid in own), key=lambda entry: entry[1], default=(0, 0))
        if num_bytes < self._max_bytes * _UNNOTICED_SHARE:
            return None
        used = [used_bytes(pid) for pid in self.decoders()]
        return (largest, num_bytes) if sum(used) > self._max_bytes and num_bytes >= max(used) else None

    def is_too_much(self, num_bytes: int) -> bool:
        """Whether a decoder of this size exceeds the budget on its own rather than by the number of decoders."""
        return num_bytes > self._max_bytes / 2

    def join(self) -> None:
        """Name this process as a decoder of the group, so that all fork servers of the machine count it."""
        ctypes.CDLL(None).prctl(_PR_SET_NAME, self._name, 0, 0, 0)

    def decoders(self) -> Iterator[int]:
        """Yield the process ids of the group on this machine."""
        for number in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{number}/comm", "rb") as file:
                if file.read().rstrip() == self._name:
                    yield int(number)


def used_bytes(pid: int) -> int:
    """Return the anonymous and shared memory of a process in bytes; 0 if it has exited.

    Memory files are not counted: a decoder only has those that it was given, and their size is fixed.
    """
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/status") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(("RssAnon:", "RssShmem:")))
    return 0
