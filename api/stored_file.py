"""A file that the service keeps, wherever that is, as an answer."""

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
from storage.files import FileState, StoredFiles

_PIECE_BYTES: Final = 4 << 20
"""Asked for at a time: what a client that reads slowly leaves in memory."""


@dataclass(frozen=True)
class FileDisposition:
    """Content type and disposition of a file response.

    Attributes:
        media_type: Its type.
        headers: More fields of the answer.
        file_name: What a browser calls it when it saves it; None for nothing.
        is_download: Whether it is offered to be saved.
    """

    media_type: str
    headers: dict[str, str] = field(default_factory=dict)
    file_name: str | None = None
    is_download: bool = False


async def stored_file_response(
    request: Request, files: StoredFiles, key: str, disposition: FileDisposition, missing: str
) -> Response:
    """The file, whole or in ranges, or a redirect to where the client gets it, or 304.

    A link cannot say what the file is to be called, so one that is to be saved comes from here.

    Args:
        request: What the client asks for.
        files: Where the file is kept.
        key: Its key.
        disposition: Content type, extra headers and file name.
        missing: Message about a file that is gone.

    Raises:
        NotFoundError: It is gone.
        RangeError: A range was asked for that lies behind its end.
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


def _pieces(
    request: Request, files: StoredFiles, key: str, state: FileState, headers: dict[str, str], media_type: str
) -> Response:
    """The bytes that are asked for; of several ranges, all of the file (RFC 9110, section 14.2, allows that)."""
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
