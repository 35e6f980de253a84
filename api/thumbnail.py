"""Responses with pictures that do not change: the thumbnail of a job."""

from __future__ import annotations

import asyncio

from fastapi import Request, Response

from api.conditional import unchanged
from errors import StateError
from media.preview.thumbnail import thumbnail
from storage.file_keys import result_key, segment_key
from storage.files import FileState, StoredFiles
from storage.records import JobRecord


async def thumbnail_response(job: JobRecord, stored: StoredFiles, request: Request) -> Response:
    """Return a JPEG of the first frame of a job.

    Raises:
        StateError: Nothing is rendered.
    """
    for key in (result_key(job.id, job.options.format), segment_key(job.id, 0, job.options.format)):
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
