"""Renders the pairs of a manifest, a few at a time; finished pairs are recorded and not rendered again."""

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
    """Limits of a batch.

    Attributes:
        max_in_flight: Maximum number of unfinished pairs.
        pair_timeout_s: Timeout of one pair, including its time in the queue.
    """

    max_in_flight: int
    pair_timeout_s: float


@dataclass(frozen=True)
class Outcome:
    """The outcome of a pair.

    Attributes:
        job_id: Its job.
        status: Final status of the job.
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
    """A service that renders pairs."""

    async def render(self, pair: Pair, name: str) -> Outcome:
        """Render a pair and store its result; a failed job is an outcome, too.

        Args:
            pair: The pair.
            name: 32 hexadecimal digits. If a killed batch asks again with the same name, the service continues the
                existing job.

        Raises:
            LipwrightError: The job or its result is missing.
            OSError: A file cannot be read or written.
        """
        ...


class Batch:
    """Renders one manifest with a service."""

    def __init__(self, renderer: Renderer, record: BatchRecord, limits: BatchLimits) -> None:
        self._renderer = renderer
        self._record = record
        self._limits = limits

    async def run(self, pairs: Sequence[Pair]) -> AsyncIterator[dict[str, Any]]:
        """Yield the report of each pair as it finishes. Closing the iterator early cancels the rest."""
        waiting = iter(pairs)
        tasks: set[asyncio.Task[dict[str, Any]]] = set()
        try:
            while True:
                # Tasks exist only for pairs in flight: a manifest may have a hundred thousand lines.
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
            late = StageTimeoutError(f"timed out after {self._limits.pair_timeout_s:.0f} s (--pair-timeout-s)")
            report |= _failure(error if isinstance(error, LipwrightError) else late)
        except (LipwrightError, OSError) as error:
            report |= _failure(error)
        report["seconds"] = round(time.monotonic() - started, 2)
        self._record.add(pair, report)
        return report


def _failure(error: LipwrightError | OSError) -> dict[str, Any]:
    code, retryable = (error.code, error.retryable) if isinstance(error, LipwrightError) else ("file_error", False)
    return {"status": "failed", "error": {"code": code, "message": str(error), "retryable": retryable}}
