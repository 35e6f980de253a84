"""Requests whose body is a small JSON object."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel

from api.forms.form_schema import inlined_schema, validated
from errors import MediaLimitError, OptionError, StageTimeoutError

_MAX_BYTES: Final = 65536
_TIMEOUT_S: Final = 60.0

_Model = TypeVar("_Model", bound=BaseModel)


def json_request(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI request body of a route that receives this model."""
    content = {"application/json": {"schema": inlined_schema(kind)}}
    return {"requestBody": {"content": content, "required": True}}


async def receive_json(request: Request, kind: type[_Model]) -> _Model:
    """Return the body of a request.

    Raises:
        OptionError: It is not a JSON object with the fields of the model.
        MediaLimitError: It is too large.
        StageTimeoutError: It arrives too slowly.
    """
    return validated(kind, await receive_fields(request))


async def receive_fields(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body of a request; errors as for `receive_json`."""
    body = await receive_body(request)
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise OptionError("Expected a JSON object.")
    return fields


async def receive_body(request: Request) -> bytes:
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
                if len(body) > _MAX_BYTES:
                    raise MediaLimitError(f"The body may have at most {_MAX_BYTES} bytes.")
    except TimeoutError:
        raise StageTimeoutError(f"The body did not arrive within {_TIMEOUT_S:g} s.") from None
    return bytes(body)
