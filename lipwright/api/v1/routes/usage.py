"""The route /v1/usage."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from fastapi import Query, Request, Response
from pydantic import BaseModel
from starlette.responses import JSONResponse, PlainTextResponse

from lipwright.api.access import caller_of
from lipwright.api.problem import problem_responses
from lipwright.api.routing import Routes, route
from lipwright.jobs.model.usage import UsageRow, usage_csv
from lipwright.jobs.ports import JobService

_CSV = "text/csv"


class UsageView(BaseModel):
    """Usage by day and API key."""

    usage: list[UsageRow]


class UsageRoutes(Routes, prefix="/v1/usage", tags=["service"]):
    """Handler of /v1/usage."""

    def __init__(self, service: JobService) -> None:
        self._service = service

    @route(
        "",
        summary="Get usage",
        response_model=UsageView,
        responses={200: {"content": {_CSV: {"schema": {"type": "string"}}}}, **problem_responses(422)},
    )
    async def get_usage(
        self,
        request: Request,
        first: Annotated[
            date | None, Query(alias="from", description="First day (UTC). Default: the first of the month.")
        ] = None,
        last: Annotated[date | None, Query(alias="to", description="Last day (UTC). Default: today.")] = None,
        format: Annotated[
            Literal["json", "csv"] | None, Query(description="Default: CSV for clients that accept `text/csv`.")
        ] = None,
    ) -> Response:
        """Return what the API key has used, by day; without API keys, what the whole service has used.

        Days without usage have no row. At most 366 days.
        """
        rows = await self._service.usage(first, last, caller_of(request).owner)
        headers = {"Cache-Control": "no-store"}
        if format == "csv" or (format is None and _CSV in request.headers.get("accept", "")):
            return PlainTextResponse(usage_csv(rows), headers=headers, media_type=_CSV)
        return JSONResponse(UsageView(usage=rows).model_dump(mode="json"), headers=headers)
