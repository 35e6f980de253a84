"""The pairs of a manifest, a few at a time, whoever renders them; what is done is recorded and not done again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.batch_record import BatchRecord
from cluster.manifest import Pair
from errors import LipwrightError, StageTimeoutError


@dataclass(frozen=True)
class BatchLimits:
    """Bounds of one batch.

    Attributes:
        max_in_flight: Pairs submitted and not finished.
        pair_timeout_s: Wall clock of one pair, its wait in the queue included.
    """

    max_in_flight: int
    pair_timeout_s: float


@dataclass(frozen=True)
class Outcome:
    """What came of a pair.

    Attributes:
        job_id: Its job.
        status: How that ended.
        num_frames: Frames of the result.
        error: `code`, `message` and `retryable` of a failure.
        quality: The quality report.
    """

    job_id: str
    status: str
    num_frames: int | None = None
    error: dict[str, Any] | None = None
    quality: dict[str, Any] | None = None


class Renderer(Protocol):
    """A service, as a batch uses it."""

    async def render(self, pair: Pair, name: str) -> Outcome:
        """Have the result in its place when this returns; a failed job is an outcome.

        Args:
            pair: What is asked.
            name: 32 hexadecimal digits. Asked again under the same name, after a batch was killed, the service goes on
                with the job that it has.

        Raises:
            LipwrightError: There is no job, or no result.
            OSError: A file cannot be read or written.
        """
        ...


class Batch:
    """One manifest on its way through a service."""

    def __init__(self, renderer: Renderer, record: BatchRecord, limits: BatchLimits) -> None:
        self._renderer = renderer
        self._record = record
        self._limits = limits

    async def run(self, pairs: Sequence[Pair]) -> AsyncIterator[dict[str, Any]]:
        """Yield the report of each pair as it ends, in the order of ending. Leaving early cancels the rest."""
        waiting = iter(pairs)
        tasks: set[asyncio.Task[dict[str, Any]]] = set()
        try:
            while True:
                # A task only for what is in flight: a manifest may have a hundred thousand lines.
                while len(tasks) < self._limits.max_in_flight and (pair := next(waiting, None)) is not None:
                    tasks.add(asyncio.create_task(self._report(pair)))
                if not tasks:
                    return
                ended, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    yield task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _report(self, pair: Pair) -> dict[str, Any]:
        started = time.monotonic()
        report: dict[str, Any] = {"line": pair.line, "out": str(pair.out)}
        try:
            async with asyncio.timeout(self._limits.pair_timeout_s):
                made = await self._renderer.render(pair, self._record.name(pair))
            report |= {"job_id": made.job_id, "status": made.status, "num_frames": made.num_frames}
            report |= {"error": made.error, "quality": made.quality}
        except TimeoutError as error:
            late = StageTimeoutError(f"expected a result within {self._limits.pair_timeout_s:.0f} s, found none")
            report |= _failure(error if isinstance(error, LipwrightError) else late)
        except (LipwrightError, OSError) as error:
            report |= _failure(error)
        report["seconds"] = round(time.monotonic() - started, 2)
        self._record.add(pair, report)
        return report


def _failure(error: LipwrightError | OSError) -> dict[str, Any]:
    code, retryable = (error.code, error.retryable) if isinstance(error, LipwrightError) else ("file_error", False)
    return {"status": "failed", "error": {"code": code, "message": str(error), "retryable": retryable}}
