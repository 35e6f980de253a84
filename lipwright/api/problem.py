"""HTTP error responses: RFC 9457 problem details for Lipwright's errors, the framework's, and unexpected ones."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lipwright.api.forms.uploads import drain
from lipwright.api.validation_message import describe
from lipwright.errors import CapacityError, LipwrightError, NotFoundError, OptionError, RangeError, UnauthorizedError
from lipwright.jobs.model.base import ErrorRecord
from lipwright.telemetry import metrics

logger = logging.getLogger(__name__)

PROBLEM_MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """Problem details of a failed request (RFC 9457)."""

    type: str = Field(description="URN of the problem type; one per code.")
    title: str = Field(description="Human-readable problem type.")
    status: int = Field(description="The HTTP status code.")
    detail: str = Field(description="What went wrong in this request.")
    instance: str = Field(description="Path of the request.")
    code: str = Field(description="Stable error code for clients to match on.")
    retryable: bool = Field(description="Whether retrying the same request can succeed.")


class ProblemResponse(JSONResponse):
    """A problem sent as application/problem+json."""

    media_type = PROBLEM_MEDIA_TYPE

    def __init__(self, problem: Problem, headers: dict[str, str] | None = None) -> None:
        super().__init__(problem.model_dump(), problem.status, headers)
        self.problem = problem


def problem_of(error: LipwrightError, instance: str) -> Problem:
    """Return the problem details of an error."""
    return _problem(error.status_code, error.code, str(error), instance, error.retryable)


def answer_to(error: LipwrightError, instance: str) -> ProblemResponse:
    """Return the HTTP response for `error`."""
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RangeError):
        headers["Content-Range"] = f"bytes */{error.num_bytes}"
    return _response(problem_of(error, instance), headers)


def job_problem(error: ErrorRecord, instance: str) -> ProblemResponse:
    """Return the HTTP response for a failed job, with the status code of its error."""
    status = next((kind.status_code for kind in _kinds(LipwrightError) if kind.code == error.code), 500)
    return _response(_problem(status, error.code, error.message, instance, error.retryable))


def problem_responses(*status_codes: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI `responses` for these status codes."""
    content = {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {code: {"description": HTTPStatus(code).phrase, "content": content} for code in status_codes}


def install(app: FastAPI, dialect: Callable[[ProblemResponse], Response] = lambda answer: answer) -> None:
    """Make `app` return an error response for every exception.

    Args:
        app: The app.
        dialect: Returns the response to send for a problem, in the format of its path.
    """

    async def on_error(request: Request, error: Exception) -> Response:
        if isinstance(error, RequestValidationError):
            error = OptionError(describe(error.errors()))
        assert isinstance(error, LipwrightError)
        if error.status_code >= 500 and not isinstance(error, CapacityError):  # a busy service is no failure
            logger.error("%s %s: %s", request.method, request.url.path, error)
        await drain(request)
        return dialect(answer_to(error, request.url.path))

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        await drain(request)
        return dialect(_answer_to_http(error, request))

    app.add_exception_handler(LipwrightError, on_error)
    app.add_exception_handler(RequestValidationError, on_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_middleware(UnexpectedErrors, dialect=dialect)


class UnexpectedErrors:
    """Turns unexpected exceptions into a generic 500 problem and logs the traceback."""

    def __init__(self, app: ASGIApp, dialect: Callable[[ProblemResponse], Response]) -> None:
        self._app = app
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            return  # the client is gone
        except Exception:
            if scope["type"] != "http" or started:
                raise
            logger.exception("%s %r failed", scope["method"], scope["path"])  # decoded: may hold line breaks
            detail = "Internal error. See the service log for details."
            answer = _response(_problem(500, LipwrightError.code, detail, scope["path"], False))
            await self._dialect(answer)(scope, receive, send)


def _kinds(kind: type[LipwrightError]) -> Iterator[type[LipwrightError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _kinds(child)


def _answer_to_http(error: HTTPException, request: Request) -> ProblemResponse:
    status = HTTPStatus(error.status_code)
    code = NotFoundError.code if status is HTTPStatus.NOT_FOUND else status.phrase.lower().replace(" ", "_")
    detail = f"{request.method} {request.url.path} does not exist." if status in (404, 405) else str(error.detail)
    return _response(_problem(status, code, detail, request.url.path, False), dict(error.headers or {}))


def _problem(status: int, code: str, detail: str, instance: str, retryable: bool) -> Problem:
    return Problem(
        type=f"urn:lipwright:problem:{code}",
        title=code.replace("_", " ").capitalize(),
        status=status,
        detail=detail,
        instance=instance,
        code=code,
        retryable=retryable,
    )


def _response(problem: Problem, headers: dict[str, str] | None = None) -> ProblemResponse:
    metrics.REFUSALS.add(1, problem.code)
    return ProblemResponse(problem, headers)
