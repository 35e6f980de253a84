"""Errors in OpenAI's format; its clients show only the message of `error`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import Response
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from api.problem import ProblemResponse


class ErrorDetails(BaseModel):
    """Why a request was refused or failed."""

    message: str = Field(description="What went wrong.")
    type: str = Field(description="`invalid_request_error`, `rate_limit_error` or `server_error`.")
    param: str | None = Field(None, description="Always null: the message names the field.")
    code: str = Field(description="Stable error code, as in /v1/jobs.")


class ErrorBody(BaseModel):
    """An error in OpenAI's format."""

    error: ErrorDetails


def error_responses(*status_codes: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI `responses` for these status codes."""
    return {code: {"description": HTTPStatus(code).phrase, "model": ErrorBody} for code in status_codes}


def error_answer(answer: ProblemResponse) -> Response:
    """Return the same answer in OpenAI's format."""
    problem = answer.problem
    kinds = {429: "rate_limit_error"}
    kind = kinds.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    body = ErrorBody(error=ErrorDetails(message=problem.detail, type=kind, code=problem.code))
    kept = {name: text for name, text in answer.headers.items() if name not in ("content-type", "content-length")}
    return JSONResponse(body.model_dump(), problem.status, kept)
