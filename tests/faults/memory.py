"""Memory of every process of a running service, twice a second."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

import psutil

from benchmarks.process_tree import name_of
from tests.faults.service_process import ServiceProcess
from tests.threads import Repeating

DECODERS = "decoders of "
"""How names of decoders and what they are forked from begin; the replica that they work for follows."""
_FORKSERVER = "lipwright.media.decoding.forkserver"


@dataclass(frozen=True)
class Sample:
    """MiB that would be free if one process ended, at one moment.

    Decoders are forked, and share pages with what they are forked from; they count together, as one.
    """

    at_s: float
    name: str
    mib: float


class MemoryWatch(Repeating):
    """Looks at every process of the service twice a second while the block lasts."""

    period_s = 0.5

    def __init__(self, service: ServiceProcess) -> None:
        self._service = service
        self._started = time.monotonic()
        self.samples: list[Sample] = []

    def peaks(self, from_s: float = 0.0, until_s: float = float("inf")) -> dict[str, float]:
        """Highest MiB of any process of a name, among the samples of a half-open range of seconds."""
        found: dict[str, float] = {}
        for sample in self.samples:
            if from_s <= sample.at_s < until_s:
                found[sample.name] = max(found.get(sample.name, 0.0), sample.mib)
        return found

    def in_parts(self, name: str, num_parts: int) -> list[float]:
        """The peaks of one name in so many equal parts of the block: what grows, grows from part to part."""
        part_s = max((sample.at_s for sample in self.samples), default=0.0) / num_parts + 1e-3
        return [self.peaks(part_s * part, part_s * (part + 1)).get(name, 0.0) for part in range(num_parts)]

    def look(self) -> None:
        at_s = time.monotonic() - self._started
        families: dict[str, float] = {}
        for process in self._service.processes():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                memory = process.memory_full_info()
                if (owner := decodes_for(process)) is None:
                    self.samples.append(Sample(at_s, name_of(process), memory.uss / 2**20))
                else:
                    families[owner] = families.get(owner, 0.0) + memory.pss / 2**20
        self.samples += [Sample(at_s, owner, mib) for owner, mib in families.items()]


def decodes_for(process: psutil.Process) -> str | None:
    """A name for the decoders of a replica if this is one, or what they are forked from."""
    if not _is_forkserver(process):
        return None
    owner = process.parent()
    while owner is not None and _is_forkserver(owner):
        owner = owner.parent()
    return DECODERS + (name_of(owner) if owner else "nobody")


def _is_forkserver(process: psutil.Process) -> bool:
    return any(_FORKSERVER in argument for argument in process.cmdline())
