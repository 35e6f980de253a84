"""Responses with files, local or remote: whole, in ranges (RFC 9110, section 14), or 304 (section 13)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse

from lipwright.errors import NotFoundError, RangeError
from lipwright.media.headers import HEAD_BYTES, media_type_of
from lipwright.storage.files import FileState, StoredFiles

_RANGES: Final = re.compile(r"bytes\s*=\s*(.+)", re.IGNORECASE)
_ONE: Final = re.compile(r"(\d{1,18})-(\d{0,18})|-(\d{1,18})")
_READS: Final = ("GET", "HEAD")
"""Methods with conditions, ranges and redirects; a submission that waits for its video is a POST request."""


def satisfiable(field: str, num_bytes: int) -> str | None:
    """Return the satisfiable ranges of a `Range` header for a file of `num_bytes`, as a header value.

    None if the header must be ignored: unknown unit or invalid syntax.

    Raises:
        RangeError: No range is satisfiable.
    """
    asked = _RANGES.fullmatch(field.strip())
    if asked is None:
        return None
    kept = []
    for text in filter(None, (part.strip() for part in asked[1].split(","))):
        one = _ONE.fullmatch(text)
        if one is None or (one[2] and int(one[2]) < int(one[1])):
            return None
        if int(one[1]) < num_bytes if one[1] else int(one[3]) and num_bytes:
            kept.append(text)
    if not kept:
        raise RangeError(f"Range: {field[:80]!r} is beyond the end of the file ({num_bytes} bytes).", num_bytes)
    return f"bytes={','.join(kept)}"


def one_range(field: str, num_bytes: int) -> tuple[int, int] | None:
    """Return [start, stop) of a `Range` header with a single range; None for anything else.

    Raises:
        RangeError: The range is not satisfiable.
    """
    one = _ONE.fullmatch((satisfiable(field, num_bytes) or "").removeprefix("bytes="))
    if one is None:
        return None
    if not one[1]:
        return max(0, num_bytes - int(one[3])), num_bytes
    return int(one[1]), min(num_bytes, int(one[2]) + 1) if one[2] else num_bytes


_TAG: Final = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
# Headers that a 304 repeats from the 200 (section 15.4.5).
_REPEATED: Final = ("cache-control", "etag", "last-modified", "vary", "x-content-type-options")


def unchanged(request: Request, headers: Mapping[str, str]) -> Response | None:
    """Return a 304 response if the client's copy is current, else None.

    Args:
        request: The request.
        headers: Headers of the full response in lower case, including `etag` or `last-modified`.
    """
    if request.method not in _READS or not _is_known(request, headers):
        return None
    return Response(status_code=304, headers={name: headers[name] for name in _REPEATED if name in headers})


def is_range_wanted(request: Request, headers: Mapping[str, str]) -> bool:
    """Return whether method and `If-Range` allow a range response; a weak tag never does."""
    condition = request.headers.get("if-range")
    is_current = condition is None or condition in (headers.get("etag"), headers.get("last-modified"))
    return is_current and request.method in _READS


def _is_known(request: Request, headers: Mapping[str, str]) -> bool:
    asked = ", ".join(request.headers.getlist("if-none-match"))
    if asked:  # takes precedence over `If-Modified-Since`
        etag = headers.get("etag", "").removeprefix("W/")
        return asked.strip() == "*" or (bool(etag) and etag in _TAG.findall(asked))
    since, changed = request.headers.get("if-modified-since"), headers.get("last-modified")
    if since is None or changed is None:
        return False
    try:
        return parsedate_to_datetime(changed) <= parsedate_to_datetime(since)
    except (TypeError, ValueError):
        return False  # invalid dates are ignored


class _FileResponse(FileResponse):
    chunk_size = 256 * 1024  # a third less CPU time per byte than with 64 KiB, as each is a message of Ray


def local_file_response(request: Request, path: Path, headers: dict[str, str], **options: Any) -> Response:
    """Return the file at `path`; `options` are those of Starlette's `FileResponse`.

    Raises:
        RangeError: The requested range is not satisfiable.
    """
    state = path.stat()
    tag = f'"{state.st_mtime_ns:x}-{state.st_size:x}"'  # files are replaced atomically, so this identifies the content
    response = _FileResponse(path, headers={**headers, "ETag": tag}, stat_result=state, **options)
    if (answer := unchanged(request, response.headers)) is not None:
        return answer
    _settle_range(request, response.headers, state.st_size)
    return response


def _settle_range(request: Request, headers: Headers, num_bytes: int) -> None:
    """Keep only satisfiable ranges in the request; Starlette would answer 400 to those that must be ignored."""
    asked = request.headers.get("range")
    if asked is None:
        return
    kept = satisfiable(asked, num_bytes) if is_range_wanted(request, headers) else None
    fields = [field for field in request.scope["headers"] if field[0] not in (b"range", b"if-range")]
    request.scope["headers"] = fields if kept is None else [*fields, (b"range", kept.encode())]


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

    A redirect cannot set the file name, and would repeat a POST request, so both are always served from here.

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
        kind = "attachment" if disposition.is_download else "inline"
        try:
            return local_file_response(
                request,
                path,
                disposition.headers,
                media_type=disposition.media_type,
                filename=disposition.file_name,
                content_disposition_type=kind,
            )
        except FileNotFoundError as error:
            raise NotFoundError(missing) from error
    state = await asyncio.to_thread(files.find, key)
    if state is None:
        raise NotFoundError(missing)
    headers = {name.lower(): value for name, value in disposition.headers.items()}
    headers |= {"etag": f'"{state.tag}"', "accept-ranges": "bytes", **_disposition(disposition)}
    if (answer := unchanged(request, headers)) is not None:
        return answer
    if (
        request.method in _READS
        and not disposition.is_download
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
