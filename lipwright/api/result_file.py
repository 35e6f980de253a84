"""Responses with the video of a job, or its first frame."""

from __future__ import annotations

import asyncio
from pathlib import PurePath

from fastapi import Request, Response

from lipwright.api.file_responses import FileDisposition, stored_file_response, unchanged
from lipwright.errors import StateError
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.media.output.formats import FORMATS
from lipwright.media.preview import thumbnail
from lipwright.storage.file_keys import result_key, segment_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.files import FileState, StoredFiles


async def result_file_response(job: JobRecord, files: FileStore, request: Request, download: bool = False) -> Response:
    """Return the finished video of `job`; with `download`, as an attachment.

    Raises:
        StateError: The job has not succeeded.
        NotFoundError: The video was removed.
        RangeError: The requested range is not satisfiable.
    """
    if job.status is not JobStatus.SUCCEEDED:
        raise StateError(f"Job {job.id} has no video (status: {job.status}).")
    headers = {"Cache-Control": "private, no-cache"}
    disposition = FileDisposition(FORMATS[job.format].media_type, headers, _video_name(job), is_download=download)
    return await stored_file_response(
        request,
        files.stored,
        result_key(job.id, job.format),
        disposition,
        missing=f"The video of job {job.id} was removed.",
    )


async def thumbnail_response(job: JobRecord, stored: StoredFiles, request: Request) -> Response:
    """Return a JPEG of the first frame of a job.

    Raises:
        StateError: Nothing is rendered.
    """
    for key in (result_key(job.id, job.format), segment_key(job.id, 0, job.format)):
        if (state := await asyncio.to_thread(stored.find, key)) is None:
            continue
        headers = lasting(state)
        if (answer := unchanged(request, headers)) is not None:
            return answer
        return Response(await asyncio.to_thread(_picture, stored, key), media_type="image/jpeg", headers=headers)
    raise StateError(f"Job {job.id} has no thumbnail: nothing is rendered (status: {job.status}).")


def lasting(state: FileState) -> dict[str, str]:
    """Return the headers of a picture that does not change."""
    return {"cache-control": "private, max-age=86400, immutable", "etag": f'"{state.tag}"'}


def _picture(stored: StoredFiles, key: str) -> bytes:
    with stored.fetched(key) as path:
        return thumbnail(path)


def _video_name(job: JobRecord) -> str:
    """Return the file name for downloads, after the speech file."""
    stem = PurePath(job.audio_label).stem
    return f"{stem or 'lipwright-' + job.id[:8]}.{job.format}"
