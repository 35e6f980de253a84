"""Errors as OpenAI's clients read them: they show the message of `error`, and of nothing else."""

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

logger = logging.getLogger("ray.serve")


class ErrorDetails(BaseModel):
    """Why a request was refused or failed."""

    message: str = Field(description="What happened this time.")
    type: str = Field(description="`invalid_request_error`, `rate_limit_error` or `server_error`.")
    param: str | None = Field(None, description="Always null: the message names the field.")
    code: str = Field(description="Stable name of the problem, as under /v1/jobs.")


class ErrorBody(BaseModel):
    """An error as OpenAI's API has it."""

    error: ErrorDetails


class OpenAIRoute(APIRoute):
    """A route whose errors have OpenAI's form; status codes and headers are those of all others."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with what it raises on purpose told."""
        handle = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                return error_answer(OptionError(describe(error.errors())), request.url.path)
            except LipwrightError as error:
                return _logged(error, request)

        return told


def error_responses(*status_codes: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI `responses` for these status codes."""
    return {code: {"description": HTTPStatus(code).phrase, "model": ErrorBody} for code in status_codes}


def error_answer(error: LipwrightError, path: str) -> Response:
    """The whole answer to a request for `path` that `error` ended."""
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
