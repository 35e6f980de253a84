"""A job's video as an answer."""

from __future__ import annotations

from pathlib import PurePath

from starlette.responses import FileResponse

from errors import NotFoundError, StateError
from storage.local.file_store import FileStore
from storage.records import JobRecord, JobStatus


def result_file(job: JobRecord, files: FileStore, download: bool = False) -> FileResponse:
    """The finished video of `job`, whole or in ranges.

    Raises:
        StateError: The job has not succeeded.
        NotFoundError: The video was removed.
    """
    if job.status is not JobStatus.SUCCEEDED:
        raise StateError(f"Job {job.id} has no video: expected it to be succeeded, found it {job.status}.")
    path = files.result_path(job.id)
    if not path.is_file():
        raise NotFoundError(f"The video of job {job.id} was removed.")
    stem = PurePath(job.audio.label).stem  # a name to save the video under: that of the speech, if the client gave one
    return FileResponse(
        path,
        media_type="video/mp4",
        filename=f"{stem or 'lipwright-' + job.id[:8]}.mp4",
        content_disposition_type="attachment" if download else "inline",
        headers={"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"},
    )
