"""Requests whose body is a small JSON object, and the digests by which idempotency keys recognise repeated ones."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel

from lipwright.api.forms.form_schema import inlined_schema, validated
from lipwright.errors import MediaLimitError, OptionError, StageTimeoutError
from lipwright.jobs.model.avatar_settings import MovementSettings
from lipwright.jobs.model.base import UploadedFile

_MAX_BYTES: Final = 65536
_TIMEOUT_S: Final = 60.0

_Model = TypeVar("_Model", bound=BaseModel)


def json_request(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI request body of a route that receives this model."""
    content = {"application/json": {"schema": inlined_schema(kind)}}
    return {"requestBody": {"content": content, "required": True}}


async def receive_json(request: Request, kind: type[_Model], max_bytes: int = _MAX_BYTES) -> _Model:
    """Return the body of a request.

    Raises:
        OptionError: It is not a JSON object with the fields of the model.
        MediaLimitError: It is too large.
        StageTimeoutError: It arrives too slowly.
    """
    return validated(kind, await receive_fields(request, max_bytes))


async def receive_fields(request: Request, max_bytes: int = _MAX_BYTES) -> dict[str, Any]:
    """Return the JSON object in the body of a request; errors as for `receive_json`."""
    body = await receive_body(request, max_bytes)
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise OptionError("Expected a JSON object.")
    return fields


async def receive_body(request: Request, max_bytes: int = _MAX_BYTES) -> bytes:
    """Return the body of a request.

    Raises:
        MediaLimitError: It is too large.
        StageTimeoutError: It arrives too slowly.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            async for piece in request.stream():
                body += piece
                if len(body) > max_bytes:
                    raise MediaLimitError(f"The body may have at most {max_bytes} bytes.")
    except TimeoutError:
        raise StageTimeoutError(f"The body did not arrive within {_TIMEOUT_S:g} s.") from None
    return bytes(body)


def request_digest(form: BaseModel, urls: Mapping[str, str]) -> str:
    """Return the hexadecimal SHA-256 of a form's type, fields and files.

    Default values count as absent, except those of a movement, which override what an avatar has. The order of fields
    and the names of files do not matter. Files count by content, whatever their encoding; files named by URL count by
    the URL, as they are not downloaded again.

    Args:
        form: The validated form.
        urls: URLs of files, by the name of the file field.
    """
    overrides = form.model_fields_set & MovementSettings.model_fields.keys()
    meaning = form.model_dump(mode="json", exclude_defaults=True) | form.model_dump(mode="json", include=overrides)
    for name, value in form:
        if isinstance(value, UploadedFile):
            meaning[name] = _content(name, value, urls)
        elif isinstance(value, dict) and any(isinstance(file, UploadedFile) for file in value.values()):
            meaning[name] = {field: _content(field, file, urls) for field, file in value.items()}
    text = json.dumps([type(form).__name__, meaning], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _content(field: str, file: UploadedFile, urls: Mapping[str, str]) -> list[str]:
    return ["url", urls[field]] if field in urls else ["sha256", file.sha256]
