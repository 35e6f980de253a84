"""Preview of a job: a fragmented MP4 that grows while the job is rendered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from starlette.concurrency import iterate_in_threadpool

from lipwright.config import LabelsConfig
from lipwright.errors import CapacityError, NotFoundError, ReplicaLostError, StateError, StoredFileError
from lipwright.jobs.fair_queue import run_in_thread
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.ports import JobService
from lipwright.media.labels.labeller import result_tags
from lipwright.media.preview import LivePreview, finished_preview
from lipwright.storage.file_keys import result_key, segment_key, speech_key
from lipwright.storage.file_store import FileStore

_LOOK_S = 10.0
_AHEAD_SECONDS = 60.0
"""Maximum lead over real-time playback; bounds the memory used by slow viewers."""
_MAX_VIEWERS = 64
_RETRY_AFTER_S = 5.0

_MAX_LOSSES = 20
_LOSS_PAUSE_S = 2.0

_T = TypeVar("_T")


class Previews:
    """Active previews of one API process."""

    def __init__(
        self, service: JobService, files: FileStore, labels: LabelsConfig, max_viewers: int = _MAX_VIEWERS
    ) -> None:
        self._labels = labels
        self._service = service
        self._files = files
        self._max_viewers = max_viewers
        self._num_viewers = 0

    async def open(self, job: JobRecord) -> AsyncGenerator[bytes]:
        """Return the preview stream of a job.

        Raises:
            StateError: The job failed or was cancelled, or is made in another format than MP4.
            NotFoundError: The video was deleted.
            CapacityError: There are too many viewers.
        """
        if job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
            raise StateError(f"Job {job.id} has no preview (status: {job.status}).")
        if job.format != "mp4":
            raise StateError(f"Job {job.id} has no preview: its format is {job.format}, not mp4.")
        if job.status is JobStatus.SUCCEEDED and not await asyncio.to_thread(self._files.has, result_key(job.id)):
            raise NotFoundError(f"The video of job {job.id} was removed.")
        if self._num_viewers >= self._max_viewers:
            raise CapacityError(f"Too many previews: the limit is {self._max_viewers}.", _RETRY_AFTER_S)
        return self._stream_counted(job)

    async def _stream_counted(self, job: JobRecord) -> AsyncGenerator[bytes]:
        self._num_viewers += 1
        try:
            async with aclosing(_pace(self._pieces(job))) as pieces:
                async for piece in pieces:
                    yield piece
        except NotFoundError:
            return  # the job was deleted
        finally:
            self._num_viewers -= 1

    async def _pieces(self, job: JobRecord) -> AsyncGenerator[tuple[float, bytes]]:
        """Yield (end time in seconds, data) of each fragment; waits for segments until the job ends."""
        preview: LivePreview | None = None
        tags = result_tags(self._labels, job.produce_id)
        num_segments = 0
        while not job.status.is_final:
            for segment in await _with_retries(partial(self._service.finished_segments, job.id, None)):
                if segment.number != num_segments:
                    continue  # already sent, or an earlier one is missing
                try:
                    async with _fetch(self._files, segment_key(job.id, segment.number)) as path:
                        if preview is None:
                            async with _fetch(self._files, speech_key(job.id)) as speech:
                                preview = await asyncio.to_thread(LivePreview, path, speech, tags)
                        async for piece in iterate_in_threadpool(preview.add_segment(path)):
                            yield preview.seconds, piece
                except (StoredFileError, FileNotFoundError):
                    break  # the job has just ended and its segments were deleted
                num_segments += 1
            job = await _with_retries(partial(self._service.wait_job, job.id, job.version, _LOOK_S))
        if job.status is not JobStatus.SUCCEEDED:
            return
        async with _fetch(self._files, result_key(job.id)) as result:
            if preview is None:
                async for whole in iterate_in_threadpool(finished_preview(result, tags)):
                    yield whole
                return
            async for piece in iterate_in_threadpool(preview.add_rest(result)):
                yield preview.seconds, piece


@asynccontextmanager
async def _fetch(files: FileStore, key: str) -> AsyncIterator[Path]:
    """Make a stored file available locally."""
    with ExitStack() as held:
        yield await run_in_thread(lambda token: held.enter_context(files.stored.fetched(key)))


async def _with_retries(ask: Callable[[], Awaitable[_T]]) -> _T:
    """Retry while the Director is being replaced, which takes seconds."""
    for _ in range(_MAX_LOSSES):
        try:
            return await ask()
        except ReplicaLostError:
            await asyncio.sleep(_LOSS_PAUSE_S)
    return await ask()


async def _pace(pieces: AsyncGenerator[tuple[float, bytes]]) -> AsyncGenerator[bytes]:
    """Yield the data, at most `_AHEAD_SECONDS` ahead of real time."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    async for seconds, piece in pieces:
        early_s = seconds - (loop.time() - started) - _AHEAD_SECONDS
        if early_s > 0:
            await asyncio.sleep(early_s)
        if piece:
            yield piece
