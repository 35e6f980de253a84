"""Responses with the video of a job."""

from __future__ import annotations

from pathlib import PurePath

from fastapi import Request, Response

from api.stored_file import FileDisposition, stored_file_response
from errors import StateError
from media.output.formats import FORMATS
from storage.file_keys import result_key
from storage.file_store import FileStore
from storage.records import JobRecord, JobStatus


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
    disposition = FileDisposition(
        FORMATS[job.options.format].media_type, headers, _video_name(job), is_download=download
    )
    return await stored_file_response(
        request,
        files.stored,
        result_key(job.id, job.options.format),
        disposition,
        missing=f"The video of job {job.id} was removed.",
    )


def _video_name(job: JobRecord) -> str:
    """Return the file name for downloads, after the speech file."""
    stem = PurePath(job.audio.label).stem
    return f"{stem or 'lipwright-' + job.id[:8]}.{job.options.format}"
