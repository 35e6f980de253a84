"""Errors in OpenAI's format; its clients show only the message of `error`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from api.problem import answer_to, describe
from errors import LipwrightError, OptionError

logger = logging.getLogger(__name__)


class ErrorDetails(BaseModel):
    """Why a request was refused or failed."""

    message: str = Field(description="What went wrong.")
    type: str = Field(description="`invalid_request_error`, `rate_limit_error` or `server_error`.")
    param: str | None = Field(None, description="Always null: the message names the field.")
    code: str = Field(description="Stable error code, as in /v1/jobs.")


class ErrorBody(BaseModel):
    """An error in OpenAI's format."""

    error: ErrorDetails


class OpenAIRoute(APIRoute):
    """A route that returns errors in OpenAI's format, with the usual status codes and headers."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return a handler that formats errors."""
        handle = super().get_route_handler()

        async def handle_errors(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                return error_answer(OptionError(describe(error.errors())), request.url.path)
            except LipwrightError as error:
                return _logged(error, request)

        return handle_errors


def error_responses(*status_codes: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI `responses` for these status codes."""
    return {code: {"description": HTTPStatus(code).phrase, "model": ErrorBody} for code in status_codes}


def error_answer(error: LipwrightError, path: str) -> Response:
    """Return the HTTP response for `error`."""
    known = answer_to(error, path)
    kinds = {429: "rate_limit_error"}
    kind = kinds.get(error.status_code, "server_error" if error.status_code >= 500 else "invalid_request_error")
    body = ErrorBody(error=ErrorDetails(message=str(error), type=kind, code=error.code))
    kept = {
        name: known.headers[name]
        for name in ("retry-after", "www-authenticate", "content-range")
        if name in known.headers
    }
    return JSONResponse(body.model_dump(), error.status_code, kept)


def _logged(error: LipwrightError, request: Request) -> Response:
    if error.status_code >= 500:
        logger.error("%s %s: %s", request.method, request.url.path, error)
    return error_answer(error, request.url.path)
