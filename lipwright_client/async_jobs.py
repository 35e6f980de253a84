"""The jobs of the service, in the asynchronous client."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from typing import Unpack

from lipwright_client.calls import (
    Call,
    JobFields,
    RevisionFields,
    TurnFields,
    TurnOptions,
    create_job,
    delete,
    edit_turns,
    path_of,
    reads,
    text_of,
    upload,
)
from lipwright_client.files import Target, atomic_target
from lipwright_client.records import Job, JobList, JobSummary, Turns
from lipwright_client.streams import JobEventStream, PreviewStream, VideoStream
from lipwright_client.transport import Transport

_MAX_PAGE = 500  # page size limit of the service


class AsyncJobs:
    """The jobs of the service."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, **fields: Unpack[JobFields]) -> Job:
        """Submit a job. Returns when the service has received and validated its files; texts are spoken by the job.

        Raises:
            UploadError: A file does not exist.
            InputError: A file or option is invalid.
            CapacityError: The service was full until the retry policy gave up.
        """
        return await self._transport.run(create_job(fields))

    async def get(self, job_id: str) -> Job:
        """Return the current state of a job."""
        return await self._transport.run(Call("GET", _job(job_id), reads(Job)))

    async def list(
        self, limit: int = 50, status: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> tuple[JobSummary, ...]:
        """List jobs, newest first: at most `limit`, with this status and metadata. `get` returns the rest of a job."""
        query = {"status": status} if status else {}
        if metadata:
            query["metadata"] = json.dumps(dict(metadata))
        jobs: tuple[JobSummary, ...] = ()
        while (num_left := limit - len(jobs)) > 0:
            query["limit"] = str(min(_MAX_PAGE, num_left))
            page = await self._transport.run(Call("GET", "/v1/jobs", reads(JobList), query))
            jobs += page.jobs
            if page.next_after is None or not page.jobs:
                break
            query["after"] = str(page.next_after)
        return jobs

    async def subtitles(self, job_id: str, kind: str = "srt") -> str:
        """Return the texts of a job's turns as a subtitle file: `srt` or `vtt`.

        Raises:
            NotFoundError: The job has no texts.
        """
        return await self._transport.run(Call("GET", f"{_job(job_id)}/subtitles.{kind}", text_of))

    async def turns(self, job_id: str) -> Turns:
        """Return the turns of a job: who says what when, how long it takes, and what is cut."""
        return await self._transport.run(Call("GET", f"{_job(job_id)}/turns", reads(Turns)))

    async def turn_audio(self, job_id: str, number: int) -> bytes:
        """Return the spoken text of a turn at its own speed, as an audio file.

        Raises:
            NotFoundError: There is no such turn, or it is not spoken.
        """
        path = f"{_job(job_id)}/turns/{number}/audio"
        return await self._transport.run(Call("GET", path, lambda answer: answer.content))

    async def edit_turn(
        self, job_id: str, number: int, version: int | None = None, **fields: Unpack[TurnFields]
    ) -> Turns:
        """Change a turn of a job in review. Only this turn is spoken again. Returns all turns.

        Args:
            job_id: ID of the job.
            number: Number of the turn.
            version: `Turns.version` that the number is of; None for whatever the turns are now.
            **fields: What changes.

        Raises:
            StateError: The job is not in review, or has changed since `version`.
            NotFoundError: There is no such turn.
            InputError: Turns would overlap, or a face, voice or time is invalid.
            ConnectionFailedError: The connection broke. The turn may have changed: read the turns again.
        """
        return await self._transport.run(edit_turns("PATCH", job_id, f"/{number}", version, fields))

    async def add_turn(
        self, job_id: str, text: str, start: float, version: int | None = None, **options: Unpack[TurnOptions]
    ) -> Turns:
        """Add a turn with a text to a job in review, and speak it. Result and errors as for `edit_turn`.

        Args:
            job_id: ID of the job.
            text: What is said.
            start: When, in seconds of the video.
            version: As for `edit_turn`.
            **options: Who says it how.
        """
        fields = {**options, "text": text, "start": start}
        return await self._transport.run(edit_turns("POST", job_id, "", version, fields))

    async def remove_turn(self, job_id: str, number: int, version: int | None = None) -> Turns:
        """Remove a turn of a job in review. Arguments, result and errors as for `edit_turn`."""
        return await self._transport.run(edit_turns("DELETE", job_id, f"/{number}", version))

    async def split_turn(
        self, job_id: str, number: int, start: float, text: str, next_text: str, version: int | None = None
    ) -> Turns:
        """Make two turns of one of a job in review, and speak both. Result and errors as for `edit_turn`.

        Args:
            job_id: ID of the job.
            number: Number of the turn.
            start: When the second turn starts, in seconds of the video.
            text: Text of the first turn.
            next_text: Text of the second turn.
            version: As for `edit_turn`.
        """
        fields = {"start": start, "text": text, "next_text": next_text}
        return await self._transport.run(edit_turns("POST", job_id, f"/{number}/split", version, fields))

    async def approve(self, job_id: str) -> Job:
        """Render a job in review with its turns as they are now. Approving it again has no effect.

        Raises:
            StateError: The job was not made with `review`, or its texts are not yet spoken.
        """
        return await self._transport.run(Call("POST", f"{_job(job_id)}/approve", reads(Job)))

    async def revise(self, job_id: str, **changes: Unpack[RevisionFields]) -> Job:
        """Make a new job of one that has succeeded, with changes. What stays the same is reused.

        Raises:
            StateError: The job has not succeeded.
            NotFoundError: There is no such turn, or files of the job are gone.
            InputError: The changes are not possible.
            ConnectionFailedError: The connection broke. There may be a new job: see `list`.
        """
        call = upload(f"{_job(job_id)}/revisions", reads(Job), changes)
        return await self._transport.run(replace(call, is_idempotent=False))

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job. Has no effect on a finished job."""
        return await self._transport.run(Call("POST", f"{_job(job_id)}/cancel", reads(Job)))

    async def delete(self, job_id: str) -> None:
        """Delete a job with its files. Cancels an unfinished job first."""
        await self.cancel(job_id)
        await self._transport.run(delete(_job(job_id)))

    def events(self, job_id: str) -> AsyncGenerator[Job, None]:
        """Yield the job at every change until it ends. Reconnects if the connection breaks."""
        return self._transport.read(JobEventStream(job_id, self._transport.retry))

    async def wait(
        self, job_id: str, timeout_s: float | None = None, on_change: Callable[[Job], object] | None = None
    ) -> Job:
        """Wait until a job ends or is in review, and return it. `job.check()` raises its error, if any.

        Args:
            job_id: ID of the job.
            timeout_s: Maximum wait; None for no limit.
            on_change: Called with the job at every change; in the asynchronous client, may be a coroutine function.

        Raises:
            WaitTimeoutError: The job has not ended; it continues.
        """
        job = None
        stream = JobEventStream(job_id, self._transport.retry, timeout_s, ends_at_review=True)
        async for job in self._transport.read(stream):
            if on_change is not None:
                await self._transport.io.notify(on_change, job)
        return await self.get(job_id) if job is None else job

    async def download(self, job_id: str, out: Target) -> int:
        """Download the video of a job and return its size in bytes.

        Args:
            job_id: ID of the job.
            out: A path (replaced atomically), or a file open for writing.
        """
        num_bytes = 0
        with atomic_target(out) as file:
            async for piece in self._transport.read(VideoStream(job_id, self._transport.retry)):
                await self._transport.io.write(file, piece)
                num_bytes += len(piece)
        return num_bytes

    def preview(self, job_id: str) -> AsyncGenerator[bytes, None]:
        """Yield the video while it is rendered: chunks of a fragmented MP4 that ends with the job."""
        return self._transport.read(PreviewStream(job_id, self._transport.retry))


def _job(job_id: str) -> str:
    return path_of("jobs", job_id)
