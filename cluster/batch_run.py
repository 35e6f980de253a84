"""Renders the pairs of a manifest, a few at a time; finished pairs are recorded and not rendered again.

Prints one line per pair on stdout, progress, warnings and failures on stderr.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.batch_record import BatchRecord
from cluster.manifest import Pair
from errors import LipwrightError, StageTimeoutError

_PERIOD_S = 10.0  # between two lines about progress


@dataclass(frozen=True)
class BatchLimits:
    """Limits of a batch: unfinished pairs, and the time of one pair, including its time in the queue."""

    max_in_flight: int
    pair_timeout_s: float


@dataclass(frozen=True)
class Outcome:
    """The outcome of a pair: its job, and `code`, `message` and `retryable` of a failure."""

    job_id: str
    status: str
    num_frames: int | None = None
    error: dict[str, Any] | None = None
    quality: dict[str, Any] | None = None


class Renderer(Protocol):
    """A service that renders pairs."""

    async def render(self, pair: Pair, name: str) -> Outcome:
        """Render a pair and store its result; a failed job is an outcome, too.

        If a killed batch asks again with the same name, 32 hexadecimal digits, the service continues the existing job.

        Raises:
            LipwrightError: The job or its result is missing.
            OSError: A file cannot be read or written.
        """


class Batch:
    """Renders one manifest with a service."""

    def __init__(self, renderer: Renderer, record: BatchRecord, limits: BatchLimits) -> None:
        self._renderer = renderer
        self.record = record
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
                made = await self._renderer.render(pair, self.record.name(pair))
            report |= {"job_id": made.job_id, "status": made.status, "num_frames": made.num_frames}
            report |= {"error": made.error, "quality": made.quality}
        except TimeoutError as error:
            late = StageTimeoutError(f"timed out after {self._limits.pair_timeout_s:.0f} s (--pair-timeout-s)")
            report |= _failure(error if isinstance(error, LipwrightError) else late)
        except Exception as error:  # fsspec's file systems raise errors of any class
            report |= _failure(error)
        report["seconds"] = round(time.monotonic() - started, 2)
        self.record.add(pair, report)
        return report


def _failure(error: Exception) -> dict[str, Any]:
    code, message, retryable = "file_error", str(error), False
    if isinstance(error, LipwrightError):
        code, retryable = error.code, error.retryable
    elif not isinstance(error, OSError):  # such as a server's bad status
        message, retryable = f"{type(error).__name__}: {error}", True
    return {"status": "failed", "error": {"code": code, "message": message, "retryable": retryable}}


async def run_and_print(batch: Batch, pairs: Sequence[Pair], again: bool = False, as_json: bool = False) -> int:
    """Render the pairs of a manifest that are not done yet; return the number of pairs that failed, now or earlier.

    With `again`, pairs whose failure was final are retried. With `as_json`, prints each pair's whole report.
    """
    done = {pair.line: batch.record.done(pair, again) for pair in pairs}
    rest = [pair for pair in pairs if done[pair.line] is None]
    failed = [report | {"line": line} for line, report in done.items() if report and report["status"] != "succeeded"]
    progress = _Progress(len(pairs), len(pairs) - len(rest), len(failed))
    progress.say(is_due=0 < len(rest) < len(pairs))
    async for report in batch.run(rest):
        if as_json:
            print(json.dumps(report, ensure_ascii=False), flush=True)
        else:
            _print_short(report)
        if report["status"] != "succeeded":
            failed.append(report)
        progress.count(is_failed=report["status"] != "succeeded")
    progress.say(is_due=True)
    for report in sorted(failed, key=lambda report: int(report["line"])):
        print(
            f"failed: line {report['line']}, {report['out']}: {_reason(report['error'])}", file=sys.stderr, flush=True
        )
    return len(failed)


def _print_short(report: dict[str, Any]) -> None:
    """Print what became of a pair, and the warnings about its video."""
    outcome = f"{report.get('num_frames')} frames"
    if report["status"] != "succeeded":
        outcome = f"failed ({report['error']['code']})" if report["error"] else "cancelled"
    print(f"line {report['line']}: {report['out']}: {outcome}, {report['seconds']:.1f} s", flush=True)
    for sentence in (report.get("quality") or {}).get("warnings", ()):
        print(f"warning: line {report['line']}: {sentence}", file=sys.stderr, flush=True)


def _reason(error: dict[str, Any] | None) -> str:
    return f"{error['code']}: {error['message']}" if error else "cancelled"


class _Progress:
    """Prints the progress of a batch every few seconds."""

    def __init__(self, num_pairs: int, num_done: int, num_failed: int) -> None:
        self._num_pairs, self._num_before = num_pairs, num_done
        self._num_done, self._num_failed = num_done, num_failed
        self._started = self._said = time.monotonic()

    def count(self, is_failed: bool) -> None:
        """Count a finished pair."""
        self._num_done += 1
        self._num_failed += is_failed
        self.say(is_due=time.monotonic() - self._said >= _PERIOD_S)

    def say(self, is_due: bool) -> None:
        """Print a line, if one is due."""
        if not is_due:
            return
        self._said = time.monotonic()
        num_left, num_now = self._num_pairs - self._num_done, self._num_done - self._num_before
        rest = f", about {(self._said - self._started) / num_now * num_left:.0f} s left" if num_now and num_left else ""
        print(
            f"{self._num_done} of {self._num_pairs} done, {self._num_failed} failed{rest}", file=sys.stderr, flush=True
        )
