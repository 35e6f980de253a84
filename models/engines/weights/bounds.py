"""Limits that the reading process puts on itself before it looks into a file."""

from __future__ import annotations

import resource
from typing import Final

MAX_ANSWER_BYTES: Final = 64 * 1024**2
"""What the process may write, to its answer or anywhere."""
_MAX_OPEN_FILES: Final = 64
_CPU_SECONDS: Final = 120  # importing PyTorch takes a few, with a cold disk cache on a slow machine many
_BYTES_PER_CPU_SECOND: Final = 50_000_000  # an old torch file is read as a whole


def bound_process(num_bytes: int) -> None:
    """Limit processor time, open files and what is written, for reading a file of `num_bytes`."""
    _limit(resource.RLIMIT_CPU, _CPU_SECONDS + num_bytes // _BYTES_PER_CPU_SECOND)
    _limit(resource.RLIMIT_FSIZE, MAX_ANSWER_BYTES)
    _limit(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    _limit(resource.RLIMIT_CORE, 0)


def bound_memory(more_bytes: int) -> None:
    """Limit the address space to what it is now and `more_bytes`: libraries map gigabytes when they are imported."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        now = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmSize:"))
    _limit(resource.RLIMIT_AS, now + more_bytes)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, hard if kind == resource.RLIMIT_AS else value))
