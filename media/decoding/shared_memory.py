"""The one bound on memory that all decoders of a machine share."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterable, Iterator
from typing import Final

CHECK_S: Final = 0.05
"""Between two looks; filling a gigabyte takes a third of a second."""
_NAME: Final = b"lipwright-decode"[:15]  # prctl(2): 15 bytes; how decoders of other replicas are known
_PR_SET_NAME: Final = 15
_UNNOTICED_SHARE: Final = 1 / 8
"""A decoder below this share of the bound is not worth a look at the whole machine."""
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class SharedMemory:
    """Says which of one's own decoders has to go, so that all decoders of the machine stay within the bound.

    Args:
        max_bytes: Memory of all decoders together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    def passed_by(self, own: Iterable[int]) -> tuple[int, int] | None:
        """(process, its bytes): the largest of `own` if the bound is passed and no other decoder is larger."""
        largest, num_bytes = max(((pid, used_bytes(pid)) for pid in own), key=lambda entry: entry[1], default=(0, 0))
        if num_bytes < self._max_bytes * _UNNOTICED_SHARE:
            return None
        used = [used_bytes(pid) for pid in _decoders()]
        return (largest, num_bytes) if sum(used) > self._max_bytes and num_bytes >= max(used) else None

    def is_too_much(self, num_bytes: int) -> bool:
        """Whether one decoder alone took so much that the bound was passed by it and not by their number."""
        return num_bytes > self._max_bytes / 2


def join_decoders() -> None:
    """Give this process the name by which decoders are counted."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, _NAME, 0, 0, 0)


def used_bytes(pid: int) -> int:
    """Memory of its own that a process has; 0 when it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/statm") as file:
        _, resident, shared = file.read().split()[:3]
        return (int(resident) - int(shared)) * _PAGE_BYTES
    return 0


def _decoders() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/comm", "rb") as file:
            if file.read().rstrip() == _NAME:
                yield int(name)
