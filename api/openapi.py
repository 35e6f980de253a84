"""What OpenAPI says of the API as a whole: its errors, headers and keys, once each, for those who generate clients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi

from api.base_url import base_url
from api.conditional import unchanged
from api.problem import PROBLEM_MEDIA_TYPE, Problem

PATH: Final = "/openapi.json"
_TEXT: Final = {"type": "string"}
_HEADERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "Accept-Ranges": ("`bytes`: parts of it can be asked for.", _TEXT),
    "Content-Range": ("Which bytes these are, of how many; of a 416, how many there are.", _TEXT),
    "ETag": ("Name of the content, for `If-None-Match` and `If-Range`.", _TEXT),
    "Idempotency-Replayed": ("`true` where the job was made by an earlier request with the same key.", _TEXT),
    "Last-Modified": ("When the content came to be.", _TEXT),
    "Location": ("Where to look at what was made.", {"type": "string", "format": "uri-reference"}),
    "Retry-After": ("Seconds after which trying again makes sense.", {"type": "integer", "minimum": 1}),
    "WWW-Authenticate": ("`Bearer`.", _TEXT),
}
EXPOSED_HEADERS: Final = (*_HEADERS, "Content-Disposition", "Content-Length")
"""What scripts of pages elsewhere may read of an answer, beside what they always may."""
_OF_ERRORS: Final = {
    "401": ("WWW-Authenticate",),
    "416": ("Content-Range",),
    "429": ("Retry-After",),
    "503": ("Retry-After",),
}
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A name of your own for this request: sent again, it gives the same job; with another body, 422.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
}
IDEMPOTENT: Final = {"parameters": [{"$ref": "#/components/parameters/IdempotencyKey"}]}
"""OpenAPI of a route that knows idempotency keys."""
_UNSIGNED: Final[dict[str, list[str]]] = {}  # services without keys want none


def headers_of(*names: str) -> dict[str, Any]:
    """OpenAPI `headers` of a response."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
"""OpenAPI of content that is no text."""
CACHED: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "The client has it: its `ETag` was in `If-None-Match`.", "headers": headers_of("ETag")}
}
"""OpenAPI `responses` of what clients may keep."""
RANGED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"video/mp4": BINARY}, "headers": headers_of("Accept-Ranges", "ETag", "Last-Modified")},
    206: {"description": "The range that was asked for.", "headers": headers_of("Content-Range", "ETag")},
    **CACHED,
}
"""OpenAPI `responses` of a file that is sent whole or in ranges."""


class OpenAPIRoute:
    """The description of `app`, made once."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._schema: dict[str, Any] | None = None

    def router(self) -> APIRouter:
        """Its route, in place of FastAPI's own."""
        router = APIRouter(include_in_schema=False)
        router.add_api_route(PATH, self.answer, methods=["GET", "HEAD"])
        return router

    def answer(self, request: Request) -> Response:
        """The description as JSON, with the address of the service where that is not where the description is."""
        if self._schema is None:
            self._schema = self._app.openapi()
        servers = {"servers": [{"url": base}]} if (base := base_url(request)) else {}
        content = json.dumps({**self._schema, **servers}, ensure_ascii=False).encode()
        digest = hashlib.sha256(content).hexdigest()
        headers = {"cache-control": "no-cache", "etag": f'"{digest[:32]}"'}
        return unchanged(request, headers) or Response(content, media_type="application/json", headers=headers)


def described(app: FastAPI) -> dict[str, Any]:
    """OpenAPI of `app`."""
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = Problem.model_json_schema()
    components["parameters"] = {"IdempotencyKey": _KEY}
    components["headers"] = {
        name: {"description": description, "schema": content} for name, (description, content) in _HEADERS.items()
    }
    for operation in _operations(schema):
        _settle_errors(operation["responses"])
        _settle_forms(operation.get("requestBody", {}), schemas)
        if operation.get("security"):
            operation["security"].append(_UNSIGNED)
    return schema


def _operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for ways in schema["paths"].values():
        yield from ways.values()


def _settle_forms(body: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Give the forms that routes read themselves a name among the components."""
    for content in body.get("content", {}).values():
        if title := content["schema"].get("title"):
            schemas[title] = content["schema"]
            content["schema"] = {"$ref": f"#/components/schemas/{title}"}


def _settle_errors(responses: dict[str, Any]) -> None:
    """Put a problem in the place of FastAPI's own validation error, and say which headers errors have."""
    for status, response in responses.items():
        if "HTTPValidationError" in json.dumps(response):
            response["description"] = "Unprocessable Content"
            response["content"] = {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        if names := _OF_ERRORS.get(status):
            response["headers"] = headers_of(*names)
