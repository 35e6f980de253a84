"""A job's video as an answer, whole or in ranges."""

from __future__ import annotations

from pathlib import PurePath

from fastapi import Request, Response

from api.kept_file import kept_file
from errors import NotFoundError, StateError
from storage.local.file_store import FileStore
from storage.records import JobRecord, JobStatus


def result_file(job: JobRecord, files: FileStore, request: Request, download: bool = False) -> Response:
    """The finished video of `job`; with `download`, to be saved rather than shown.

    Raises:
        StateError: The job has not succeeded.
        NotFoundError: The video was removed.
        RangeError: A range was asked for that lies behind the video's end.
    """
    if job.status is not JobStatus.SUCCEEDED:
        raise StateError(f"Job {job.id} has no video: expected it to be succeeded, found it {job.status}.")
    path = files.result_path(job.id)
    if not path.is_file():
        raise NotFoundError(f"The video of job {job.id} was removed.")
    return kept_file(
        request,
        path,
        {"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"},
        media_type="video/mp4",
        filename=_video_name(job),
        content_disposition_type="attachment" if download else "inline",
    )


def _video_name(job: JobRecord) -> str:
    """A name to save the video under: that of the speech, as far as the client gave one."""
    stem = PurePath(job.audio.label).stem
    return f"{stem or 'lipwright-' + job.id[:8]}.mp4"
