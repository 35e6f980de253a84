"""A file that the service keeps, as an answer: whole, in ranges, or not at all for a client that has it already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from api.byte_range import satisfiable
from api.conditional import is_range_wanted, unchanged


def local_file_response(request: Request, path: Path, headers: dict[str, str], **options: Any) -> Response:
    """The file at `path`; `options` are those of Starlette's `FileResponse`.

    Raises:
        RangeError: A range was asked for that lies behind the file's end.
    """
    state = path.stat()
    tag = f'"{state.st_mtime_ns:x}-{state.st_size:x}"'  # another one when the file is replaced, as a whole as ever
    response = FileResponse(path, headers={**headers, "ETag": tag}, stat_result=state, **options)
    if (answer := unchanged(request, response.headers)) is not None:
        return answer
    _settle_range(request, response.headers, state.st_size)
    return response


def _settle_range(request: Request, headers: Headers, num_bytes: int) -> None:
    """Leave of the request's ranges what can be sent; Starlette answers 400 to those that count as absent."""
    asked = request.headers.get("range")
    if asked is None:
        return
    is_wanted = request.method in ("GET", "HEAD") and is_range_wanted(request, headers)
    kept = satisfiable(asked, num_bytes) if is_wanted else None
    fields = [field for field in request.scope["headers"] if field[0] not in (b"range", b"if-range")]
    request.scope["headers"] = fields if kept is None else [*fields, (b"range", kept.encode())]
