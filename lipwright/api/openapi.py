"""The OpenAPI document: shared errors, headers and API keys, for client generators."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Final

from fastapi import Depends, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.security import APIKeyHeader, HTTPBearer

from lipwright.api.base_url import base_url
from lipwright.api.file_responses import unchanged
from lipwright.api.problem import PROBLEM_MEDIA_TYPE, Problem
from lipwright.api.routing import Routes, route

PATH: Final = "/openapi.json"
_TEXT: Final = {"type": "string"}
_HEADERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "Accept-Ranges": ("`bytes`: range requests are supported.", _TEXT),
    "Content-Range": ("The bytes in this response and the total size; with 416, the total size.", _TEXT),
    "ETag": ("Entity tag for `If-None-Match` and `If-Range`.", _TEXT),
    "Idempotency-Replayed": ("`true` if an earlier request with the same key created the job.", _TEXT),
    "Last-Modified": ("Time of the last change.", _TEXT),
    "Location": ("URL of the created resource.", {"type": "string", "format": "uri-reference"}),
    "Retry-After": ("Seconds to wait before retrying.", {"type": "integer", "minimum": 1}),
    "WWW-Authenticate": ("`Bearer`.", _TEXT),
}
EXPOSED_HEADERS: Final = (*_HEADERS, "Content-Disposition", "Content-Length")
"""Response headers that cross-origin scripts may read (CORS)."""
_OF_ERRORS: Final = {
    "401": ("WWW-Authenticate",),
    "416": ("Content-Range",),
    "429": ("Retry-After",),
    "503": ("Retry-After",),
}
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Your ID for this request. Repeating it returns the same job; a different body returns 422.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
}
IDEMPOTENT: Final = {"parameters": [{"$ref": "#/components/parameters/IdempotencyKey"}]}
"""OpenAPI of a route that accepts idempotency keys."""
API_KEY: Final = [
    Depends(HTTPBearer(auto_error=False, description="API key. Required once the service has at least one key.")),
    Depends(
        APIKeyHeader(
            name="X-API-Key",
            scheme_name="X-API-Key",
            auto_error=False,
            description="API key, as an alternative to `Authorization`.",
        )
    ),
]
"""Dependencies of the routes that require a key: they document it, and `ApiKeyMiddleware` checks it."""
_UNSIGNED: Final[dict[str, list[str]]] = {}  # a service without keys needs none


def headers_of(*names: str) -> dict[str, Any]:
    """Return OpenAPI `headers` of a response."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
"""OpenAPI of binary content."""
CACHED: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "Not modified: the client's copy is current.", "headers": headers_of("ETag")}
}
"""OpenAPI `responses` of cacheable content."""
RANGED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"video/mp4": BINARY}, "headers": headers_of("Accept-Ranges", "ETag", "Last-Modified")},
    206: {"description": "The requested range.", "headers": headers_of("Content-Range", "ETag")},
    **CACHED,
}
"""OpenAPI `responses` of a file with range support."""


class OpenAPIRoute(Routes, include_in_schema=False):
    """Serves the OpenAPI document of `app`, built once."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._schema: dict[str, Any] | None = None

    @route(PATH, "HEAD")
    @route(PATH)
    def answer(self, request: Request) -> Response:
        """Return the document as JSON, with the external base URL if there is one."""
        if self._schema is None:
            self._schema = self._app.openapi()
        servers = {"servers": [{"url": base}]} if (base := base_url(request)) else {}
        content = json.dumps({**self._schema, **servers}, ensure_ascii=False).encode()
        digest = hashlib.sha256(content).hexdigest()
        headers = {"cache-control": "no-cache", "etag": f'"{digest[:32]}"'}
        return unchanged(request, headers) or Response(content, media_type="application/json", headers=headers)


def described(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of `app`."""
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
    for methods in schema["paths"].values():
        yield from methods.values()


def _settle_forms(body: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Move inline form schemas to the components."""
    for content in body.get("content", {}).values():
        if title := content["schema"].get("title"):
            schemas[title] = content["schema"]
            content["schema"] = {"$ref": f"#/components/schemas/{title}"}


def _settle_errors(responses: dict[str, Any]) -> None:
    """Replace FastAPI's validation error by a problem, and document the headers of errors."""
    for status, response in responses.items():
        if "HTTPValidationError" in json.dumps(response):
            response["description"] = "Unprocessable Content"
            response["content"] = {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        if names := _OF_ERRORS.get(status):
            response["headers"] = headers_of(*names)
