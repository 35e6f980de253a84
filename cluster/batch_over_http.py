"""Renders the pairs of a batch through the HTTP API of a service, for `lipwright batch`."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

from cluster.batch_record import next_name
from cluster.batch_run import Outcome
from cluster.manifest import Location, Pair, copy_atomic, file_name, open_location
from lipwright_client import AsyncLipwright, ClientError, Job
from lipwright_client.calls import JobFields


class HttpRenderer:
    """Implements `batch_run.Renderer` with a client; the name of a pair is the idempotency key of its job."""

    def __init__(self, client: AsyncLipwright) -> None:
        self._client = client

    async def render(self, pair: Pair, name: str) -> Outcome:
        """Wait for the job of this name; cancel it when the wait is cancelled."""
        try:
            job = await self._wait_for_end(await self._find_or_submit(pair, name))
            if job.status == "succeeded":
                await self._save(job, pair)
        except ClientError as refusal:
            return Outcome("", "failed", error=_failure(refusal.code, refusal.detail, refusal.retryable))
        error = job.error
        failure = None if error is None else _failure(error.code, error.message, error.retryable)
        return Outcome(job.id, job.status, job.num_frames, failure, job.report)

    async def _find_or_submit(self, pair: Pair, name: str) -> Job:
        while True:
            job = await self._submit(pair, name)
            if job.status != "cancelled":
                return job
            name = next_name(name)

    async def _submit(self, pair: Pair, name: str) -> Job:
        with ExitStack() as files:
            uploads = {field: await _open_input(location, files) for field, location in pair.inputs.items()}
            more = {field: uploads.pop(field) for field in pair.more_audio}
            fields = cast(JobFields, {**pair.options, **uploads, "more_audio": more, "idempotency_key": name})
            return await self._client.jobs.create(**fields)

    async def _wait_for_end(self, job: Job) -> Job:
        try:
            return await self._client.jobs.wait(job.id)
        except asyncio.CancelledError:
            await asyncio.shield(self._client.jobs.cancel(job.id))
            raise

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


def _failure(code: str, message: str, retryable: bool) -> dict[str, Any]:
    return {"code": code, "message": message, "retryable": retryable}
