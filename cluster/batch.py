"""Render a manifest of pairs: `ray job submit -- python -m cluster.batch manifest.jsonl --out results/`.

Calls the Director of the running application through its handle, so that a batch and the API share queue, cache and
replicas. If no application runs, it starts one and stops it at the end. Prints one line per finished pair; the exit
status is 0 only if all succeeded. Run again with the same record, it renders only what is left.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from cluster.application import running_application
from cluster.batch_options import (
    INVALID_MANIFEST,
    AsJson,
    Manifest,
    MaxInFlight,
    Out,
    PairTimeout,
    RecordPath,
    RetryFailed,
)
from cluster.batch_record import next_name, open_record, record_path
from cluster.batch_run import Batch, BatchLimits, Outcome, run_and_print
from cluster.manifest import Location, Pair, copy_atomic, file_name, open_location, read_manifest
from errors import CapacityError, InputError, LipwrightError, NotFoundError, UnavailableError
from jobs.model.base import UploadedFile
from jobs.model.record import JobRecord, JobStatus
from jobs.ports import JobService
from jobs.requests import RequestContext
from storage.file_keys import result_key
from storage.file_store import FileStore
from storage.state import open_store

_POLL_S = 10.0  # timeout of one wait for a change of a job
_RETRY_S = 2.0  # wait before a retry when the queue is full or the database is away
_PIECE_BYTES = 1 << 20


class DirectorRenderer:
    """Implements `batch_run.Renderer` with the Director and the files of a cluster."""

    def __init__(self, jobs: JobService, files: FileStore) -> None:
        self._jobs, self._files = jobs, files

    async def render(self, pair: Pair, name: str) -> Outcome:
        """Wait for the job of this name, created if it does not exist; cancel it when the wait is cancelled."""
        job = await self._find_or_submit(pair, name)
        try:
            while not job.status.is_final:
                try:
                    job = await self._jobs.wait_job(job.id, job.version, _POLL_S)
                except UnavailableError:  # the job goes on when the database is back
                    await asyncio.sleep(_RETRY_S)
        finally:
            if not job.status.is_final:
                await asyncio.shield(self._jobs.cancel_job(job.id, None))
        if job.status is JobStatus.SUCCEEDED:
            await asyncio.to_thread(self._copy, job, pair.out)
        error = job.error.model_dump() if job.error is not None else None
        return Outcome(job.id, job.status.value, job.num_frames, error, job.report)

    def _copy(self, job: JobRecord, out: Location) -> None:
        with self._files.stored.fetched(result_key(job.id, job.format)) as result:
            copy_atomic(result, out)

    async def _find_or_submit(self, pair: Pair, name: str) -> JobRecord:
        """Return the job of an earlier run of the batch, or a new one."""
        while True:
            try:
                job = await self._jobs.get_job(name, None)
            except NotFoundError:
                return await self._submit(pair, name)
            except UnavailableError:
                await asyncio.sleep(_RETRY_S)
                continue
            if job.status is not JobStatus.CANCELLED:
                return job
            name = next_name(name)

    async def _submit(self, pair: Pair, name: str) -> JobRecord:
        """Submit the pair; retry while the queue is full."""
        uploads: dict[str, UploadedFile] = {}
        try:
            for field, location in pair.inputs.items():
                uploads[field] = await asyncio.to_thread(_store, self._files, location)
            spec = pair.spec(uploads)
            while True:
                try:
                    return await self._jobs.submit(spec, RequestContext(job_id=name))
                except (CapacityError, UnavailableError):
                    await asyncio.sleep(_RETRY_S)
                    for upload in uploads.values():
                        await asyncio.to_thread(self._files.touch_upload, upload.key)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._files.drop_uploads, *uploads.values()))
            raise


def _store(files: FileStore, location: Location) -> UploadedFile:
    with files.new_upload(file_name(location)) as writer, open_location(location) as source:
        while piece := source.read(_PIECE_BYTES):
            writer.write(piece)
        return writer.finish()


def main(
    manifest: Manifest,
    out: Out = None,
    serve_config: Annotated[
        Path | None, typer.Option(help="Serve config for starting the service. Default: the shipped one.")
    ] = None,
    max_in_flight: MaxInFlight = 8,
    pair_timeout_s: PairTimeout = 3600.0,
    record: RecordPath = None,
    retry_failed: RetryFailed = False,
    as_json: AsJson = False,
) -> None:
    """Render every pair of MANIFEST that is not done yet. The exit status is 0 only if all succeeded."""
    try:
        pairs = read_manifest(manifest, out)
        with (
            open_record(record or record_path(manifest, out)) as known,
            running_application(serve_config) as application,
        ):
            renderer = DirectorRenderer(application.director, open_store(application.pipeline))
            batch = Batch(renderer, known, BatchLimits(max_in_flight, pair_timeout_s))
            num_failed = asyncio.run(run_and_print(batch, pairs, retry_failed, as_json))
    except LipwrightError as error:
        print(error, file=sys.stderr)
        raise SystemExit(INVALID_MANIFEST if isinstance(error, InputError) else 1) from None
    raise SystemExit(1 if num_failed else 0)


if __name__ == "__main__":
    typer.run(main)
