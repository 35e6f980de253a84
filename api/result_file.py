"""A job's video as an answer, whole or in ranges."""

from __future__ import annotations

from pathlib import PurePath

from fastapi import Request
from starlette.responses import FileResponse

from errors import NotFoundError, StateError
from storage.local.file_store import FileStore
from storage.records import JobRecord, JobStatus


def result_file(job: JobRecord, files: FileStore, request: Request, download: bool = False) -> FileResponse:
    """The finished video of `job`; with `download`, to be saved rather than shown.

    Raises:
        StateError: The job has not succeeded.
        NotFoundError: The video was removed.
    """
    if job.status is not JobStatus.SUCCEEDED:
        raise StateError(f"Job {job.id} has no video: expected it to be succeeded, found it {job.status}.")
    path = files.result_path(job.id)
    if not path.is_file():
        raise NotFoundError(f"The video of job {job.id} was removed.")
    ignore_unknown_ranges(request)
    return FileResponse(
        path,
        media_type="video/mp4",
        filename=_video_name(job),
        content_disposition_type="attachment" if download else "inline",
        headers={"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"},
    )


def ignore_unknown_ranges(request: Request) -> None:
    """Take a `Range` in other units than bytes for absent (RFC 9110, section 14.2); Starlette answers 400."""
    if not request.headers.get("range", "bytes=").strip().lower().startswith("bytes="):
        request.scope["headers"] = [field for field in request.scope["headers"] if field[0] != b"range"]


def _video_name(job: JobRecord) -> str:
    """A name to save the video under: that of the speech, as far as the client gave one."""
    stem = PurePath(job.audio.label).stem
    return f"{stem or 'lipwright-' + job.id[:8]}.mp4"
