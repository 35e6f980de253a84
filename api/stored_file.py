"""Responses with a stored file, local or remote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from api.byte_range import one_range
from api.conditional import is_range_wanted, unchanged
from api.local_file import local_file_response
from errors import NotFoundError
from media.headers.file_type import HEAD_BYTES, media_type_of
from storage.files import FileState, StoredFiles

_PIECE_BYTES: Final = 4 << 20
"""Chunk size: memory used per slow client."""
_INERT: Final = {"Cache-Control": "private, no-cache", "Content-Security-Policy": "sandbox; default-src 'none'"}


@dataclass(frozen=True)
class FileDisposition:
    """Content type and disposition of a file response.

    Attributes:
        media_type: Media type of the file.
        headers: Extra response headers.
        file_name: Suggested name for saving; None for none.
        is_download: Whether it is sent as an attachment.
    """

    media_type: str
    headers: dict[str, str] = field(default_factory=dict)
    file_name: str | None = None
    is_download: bool = False


async def stored_file_response(
    request: Request, files: StoredFiles, key: str, disposition: FileDisposition, missing: str
) -> Response:
    """Return the file (whole or in ranges), a redirect to the storage, or 304.

    A redirect cannot set the file name, so attachments are always served from here.

    Args:
        request: The request.
        files: The storage.
        key: Key of the file.
        disposition: Content type, extra headers and file name.
        missing: Error message if the file is gone.

    Raises:
        NotFoundError: The file is gone.
        RangeError: The requested range is not satisfiable.
    """
    if (path := files.local_path(key)) is not None:
        if not path.is_file():
            raise NotFoundError(missing)
        kind = "attachment" if disposition.is_download else "inline"
        return local_file_response(
            request,
            path,
            disposition.headers,
            media_type=disposition.media_type,
            filename=disposition.file_name,
            content_disposition_type=kind,
        )
    state = await asyncio.to_thread(files.find, key)
    if state is None:
        raise NotFoundError(missing)
    headers = {**disposition.headers, "etag": f'"{state.tag}"', "accept-ranges": "bytes", **_disposition(disposition)}
    if (answer := unchanged(request, headers)) is not None:
        return answer
    if (
        not disposition.is_download
        and (link := await asyncio.to_thread(files.presigned_url, key, request.method)) is not None
    ):
        return RedirectResponse(link, 307, {"Cache-Control": "no-store"})
    return _pieces(request, files, key, state, headers, disposition.media_type)


async def inert_file_response(request: Request, files: StoredFiles, key: str, missing: str) -> Response:
    """Return an uploaded file, never as a document: its content decides the type. See `stored_file_response`."""
    if (state := await asyncio.to_thread(files.find, key)) is None:
        raise NotFoundError(missing)
    head = await asyncio.to_thread(files.read, key, 0, min(HEAD_BYTES, state.num_bytes), state.tag)
    return await stored_file_response(request, files, key, FileDisposition(media_type_of(head), _INERT), missing)


def _pieces(
    request: Request, files: StoredFiles, key: str, state: FileState, headers: dict[str, str], media_type: str
) -> Response:
    """Return the requested range; the whole file for several ranges (allowed by RFC 9110, section 14.2)."""
    asked = request.headers.get("range")
    wanted = one_range(asked, state.num_bytes) if asked and is_range_wanted(request, headers) else None
    start, stop = wanted or (0, state.num_bytes)
    headers["content-length"] = str(stop - start)
    if wanted is not None:
        headers["content-range"] = f"bytes {start}-{stop - 1}/{state.num_bytes}"
    status = 200 if wanted is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    return StreamingResponse(_read(files, key, state.tag, start, stop), status, headers, media_type)


async def _read(files: StoredFiles, key: str, tag: str, start: int, stop: int) -> AsyncGenerator[bytes]:
    for at in range(start, stop, _PIECE_BYTES):
        yield await asyncio.to_thread(files.read, key, at, min(at + _PIECE_BYTES, stop), tag)


def _disposition(disposition: FileDisposition) -> dict[str, str]:
    if disposition.file_name is None:
        return {}
    kind = "attachment" if disposition.is_download else "inline"
    return {"content-disposition": f"{kind}; filename*=utf-8''{quote(disposition.file_name)}"}
