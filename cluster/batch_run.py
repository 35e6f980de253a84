"""Renders the pairs of a manifest through the HTTP API of a service."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from cluster.batch_record import BatchRecord, next_name
from cluster.manifest import Location, Pair, copy_atomic, file_name, open_location
from lipwright.errors import LipwrightError, StageTimeoutError
from lipwright_client import AsyncLipwright, ClientError, Job, RetryPolicy
from lipwright_client.calls import JobFields

BATCH_RETRY: Final = RetryPolicy(max_reconnects=80, max_backpressure_wait_s=24 * 3600.0, max_silence_s=600.0)
"""A full service is retried for a day, one that cannot be reached for ten minutes: it may be restarting."""
_PERIOD_S = 10.0  # between two lines about progress
_CANCEL_S = 30.0


@dataclass(frozen=True)
class BatchLimits:
    """Limits of a batch: unfinished pairs, and the time of one pair, including its time in the queue."""

    max_in_flight: int
    pair_timeout_s: float


class Batch:
    """Renders one manifest. The name of a pair in the record is the idempotency key of its job."""

    def __init__(self, client: AsyncLipwright, record: BatchRecord, limits: BatchLimits) -> None:
        self._client = client
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
        report: dict[str, Any] = {"line": pair.line, "out": str(pair.out), "job_id": None, "status": "failed"}
        report |= {"num_frames": None, "error": None, "quality": None}
        try:
            async with asyncio.timeout(self._limits.pair_timeout_s):
                job = await self._render(pair)
            report |= {"job_id": job.id, "status": job.status, "num_frames": job.num_frames, "quality": job.report}
            if job.error is not None:
                report["error"] = _error(job.error.code, job.error.message, job.error.retryable)
        except TimeoutError:
            late = StageTimeoutError(f"timed out after {self._limits.pair_timeout_s:.0f} s (--pair-timeout-s)")
            report["error"] = _error_of(late)
        except Exception as error:  # fsspec's file systems raise errors of any class
            report["error"] = _error_of(error)
        report["seconds"] = round(time.monotonic() - started, 2)
        self.record.add(pair, report)
        return report

    async def _render(self, pair: Pair) -> Job:
        """Return the ended job of a pair, whose result is saved if it succeeded. Cancels it when cancelled."""
        job = await self._find_or_submit(pair)
        try:
            job = await self._client.jobs.wait(job.id)
        except asyncio.CancelledError:
            with suppress(TimeoutError, ClientError):
                async with asyncio.timeout(_CANCEL_S):
                    await self._client.jobs.cancel(job.id)
            raise
        if job.status == "succeeded":
            await self._save(job, pair)
        return job

    async def _find_or_submit(self, pair: Pair) -> Job:
        """Return the job that an earlier run of the batch submitted, or a new one."""
        name = self.record.name(pair)
        while (job := await self._submit(pair, name)).status == "cancelled":
            name = next_name(name)
        return job

    async def _submit(self, pair: Pair, name: str) -> Job:
        with ExitStack() as files:
            uploads = {field: await _open_input(location, files) for field, location in pair.inputs.items()}
            more = {field: uploads.pop(field) for field in pair.more_audio}
            fields = cast(JobFields, {**pair.options, **uploads, "more_audio": more, "idempotency_key": name})
            return await self._client.jobs.create(**fields)

    async def _save(self, job: Job, pair: Pair) -> None:
        if isinstance(pair.out, Path):
            pair.out.parent.mkdir(parents=True, exist_ok=True)
            await self._client.jobs.download(job.id, pair.out)
            return
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "result.mp4"
            await self._client.jobs.download(job.id, whole)
            await asyncio.to_thread(copy_atomic, whole, pair.out)


async def _open_input(location: Location, files: ExitStack) -> tuple[str, BinaryIO]:
    """Open an input, to be closed with `files`; return its name, too."""
    return file_name(location), files.enter_context(await asyncio.to_thread(open_location, location))


def _error(code: str, message: str, retryable: bool) -> dict[str, Any]:
    return {"code": code, "message": message, "retryable": retryable}


def _error_of(error: Exception) -> dict[str, Any]:
    if isinstance(error, ClientError):
        return _error(error.code, error.detail, error.retryable)
    if isinstance(error, LipwrightError):
        return _error(error.code, str(error), error.retryable)
    if isinstance(error, OSError):
        return _error("file_error", str(error), False)
    return _error("file_error", f"{type(error).__name__}: {error}", True)  # such as a server's bad status


def render_batch(
    url: str, pairs: Sequence[Pair], record: BatchRecord, limits: BatchLimits, again: bool, as_json: bool
) -> int:
    """Render the pairs that are not done yet with the service at a base URL; see `run_and_print`."""

    async def run() -> int:
        async with AsyncLipwright(url, retry=BATCH_RETRY) as client:
            return await run_and_print(Batch(client, record, limits), pairs, again, as_json)

    return asyncio.run(run())


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
