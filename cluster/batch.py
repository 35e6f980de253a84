"""Render a manifest of pairs: `ray job submit -- python -m cluster.batch manifest.jsonl --out results/`.

Drives the Director of the running application through its handle, so that a batch and the API share queue, cache and
replicas. Without a running application it starts one and takes it down at the end. Prints one JSON line a pair as
each ends; the exit status is 0 only if all succeeded.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from cluster.application import RunningApplication, running_application
from cluster.manifest import Pair, read_manifest
from errors import CapacityError, InputError, LipwrightError, StageTimeoutError
from jobs.ports import JobService
from storage.local.file_store import FileStore
from storage.records import JobOptions, JobRecord, JobStatus, SubmitRequest, UploadedFile, new_id

_POLL_S = 10.0  # how long one question for news may stay open
_FULL_S = 2.0  # wait after a refusal for want of room
_WRONG_MANIFEST = 2  # exit status
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class BatchLimits:
    """Bounds of one batch.

    Attributes:
        max_in_flight: Pairs submitted and not finished.
        pair_timeout_s: Wall clock of one pair, its wait in the queue included.
    """

    max_in_flight: int
    pair_timeout_s: float


class Batch:
    """One manifest on its way through the Director."""

    def __init__(self, jobs: JobService, files: FileStore, engine: str, limits: BatchLimits) -> None:
        self._jobs = jobs
        self._files = files
        self._engine = engine
        self._limits = limits

    async def run(self, pairs: Sequence[Pair]) -> AsyncIterator[dict[str, Any]]:
        """Yield the report of each pair as it ends, in the order of ending. Leaving early cancels the rest."""
        room = asyncio.Semaphore(self._limits.max_in_flight)

        async def one(pair: Pair) -> dict[str, Any]:
            async with room:
                return await self._report(pair)

        tasks = [asyncio.create_task(one(pair)) for pair in pairs]
        try:
            for finished in asyncio.as_completed(tasks):
                yield await finished
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _report(self, pair: Pair) -> dict[str, Any]:
        started = time.monotonic()
        report: dict[str, Any] = {"line": pair.line, "out": str(pair.out)}
        try:
            async with asyncio.timeout(self._limits.pair_timeout_s):
                job = await self._render(pair)
            report |= {"job_id": job.id, "status": job.status.value, "num_frames": job.num_frames}
            report["error"] = job.error.model_dump() if job.error is not None else None
            report["quality"] = job.report
        except TimeoutError as error:
            late = StageTimeoutError(f"expected a result within {self._limits.pair_timeout_s:.0f} s, found none")
            report |= _failure(error if isinstance(error, LipwrightError) else late)
        except (LipwrightError, OSError) as error:
            report |= _failure(error)
        return report | {"seconds": round(time.monotonic() - started, 2)}

    async def _render(self, pair: Pair) -> JobRecord:
        job = await self._submit(pair)
        try:
            while not job.status.is_final:
                job = await self._jobs.wait_job(job.id, job.version, _POLL_S)
        finally:
            if not job.status.is_final:
                await asyncio.shield(self._jobs.cancel_job(job.id, None))
        if job.status is JobStatus.SUCCEEDED:
            await asyncio.to_thread(_copy_whole, self._files.result_path(job.id), pair.out)
        return job

    async def _submit(self, pair: Pair) -> JobRecord:
        """Hand the pair over; a full service is asked again until there is room."""
        uploads: list[UploadedFile] = []
        try:
            for path in (pair.video, pair.audio):
                uploads.append(await asyncio.to_thread(_store, self._files, path))
            options = JobOptions(engine=pair.engine or self._engine, face=pair.face, loop=pair.loop)
            request = SubmitRequest(job_id=new_id(), video=uploads[0], audio=uploads[1], options=options)
            while True:
                try:
                    return await self._jobs.submit(request)
                except CapacityError:
                    await asyncio.sleep(_FULL_S)
                    for upload in uploads:
                        self._files.touch_upload(upload.key)
        except BaseException:
            for upload in uploads:
                self._files.delete_upload(upload.key)
            raise


def _failure(error: LipwrightError | OSError) -> dict[str, Any]:
    code, retryable = (error.code, error.retryable) if isinstance(error, LipwrightError) else ("file_error", False)
    return {"status": "failed", "error": {"code": code, "message": str(error), "retryable": retryable}}


def _store(files: FileStore, path: Path) -> UploadedFile:
    writer = files.new_upload(path.name)
    try:
        with path.open("rb") as source:
            while piece := source.read(_PIECE_BYTES):
                writer.write(piece)
        return writer.finish()
    except BaseException:
        writer.discard()
        raise


def _copy_whole(source: Path, out: Path) -> None:
    """Copy so that `out` is either absent, old or complete."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{uuid4().hex}.part")
    try:
        shutil.copyfile(source, partial)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def main(
    manifest: Annotated[Path, typer.Argument(help='JSON lines: {"video": ..., "audio": ..., "out": ...}')],
    out: Annotated[Path | None, typer.Option(help="Folder for relative results; the manifest's by default.")] = None,
    serve_config: Annotated[
        Path | None, typer.Option(help="How to start the service if it is not running; by default, as ships.")
    ] = None,
    max_in_flight: Annotated[int, typer.Option(min=1, help="Pairs submitted and not finished.")] = 8,
    pair_timeout_s: Annotated[float, typer.Option(min=1, help="Bound of one pair, its wait included.")] = 3600.0,
) -> None:
    """Render every pair of MANIFEST; the exit status is 0 only if all succeeded."""
    limits = BatchLimits(max_in_flight, pair_timeout_s)
    try:
        pairs = read_manifest(manifest, out)
        with running_application(serve_config) as application:
            num_failed = asyncio.run(_print_reports(application, pairs, limits))
    except LipwrightError as error:
        print(error, file=sys.stderr)
        raise SystemExit(_WRONG_MANIFEST if isinstance(error, InputError) else 1) from None
    raise SystemExit(1 if num_failed else 0)


async def _print_reports(application: RunningApplication, pairs: Sequence[Pair], limits: BatchLimits) -> int:
    """Run the batch and return the number of pairs that failed."""
    pipeline = application.pipeline
    batch = Batch(application.director, FileStore(pipeline.data_dir), pipeline.engine, limits)
    num_failed = 0
    async for report in batch.run(pairs):
        print(json.dumps(report, ensure_ascii=False), flush=True)
        num_failed += report["status"] != JobStatus.SUCCEEDED.value
    return num_failed


if __name__ == "__main__":
    typer.run(main)
