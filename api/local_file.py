"""Responses with a local file: whole, in ranges, or 304."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from api.byte_range import satisfiable
from api.conditional import is_range_wanted, unchanged


def local_file_response(request: Request, path: Path, headers: dict[str, str], **options: Any) -> Response:
    """Return the file at `path`; `options` are those of Starlette's `FileResponse`.

    Raises:
        RangeError: The requested range is not satisfiable.
    """
    state = path.stat()
    tag = f'"{state.st_mtime_ns:x}-{state.st_size:x}"'  # files are replaced atomically, so this identifies the content
    response = FileResponse(path, headers={**headers, "ETag": tag}, stat_result=state, **options)
    if (answer := unchanged(request, response.headers)) is not None:
        return answer
    _settle_range(request, response.headers, state.st_size)
    return response


def _settle_range(request: Request, headers: Headers, num_bytes: int) -> None:
    """Keep only satisfiable ranges in the request; Starlette would answer 400 to those that must be ignored."""
    asked = request.headers.get("range")
    if asked is None:
        return
    is_wanted = request.method in ("GET", "HEAD") and is_range_wanted(request, headers)
    kept = satisfiable(asked, num_bytes) if is_wanted else None
    fields = [field for field in request.scope["headers"] if field[0] not in (b"range", b"if-range")]
    request.scope["headers"] = fields if kept is None else [*fields, (b"range", kept.encode())]
