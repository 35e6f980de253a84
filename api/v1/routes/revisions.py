"""The route of revisions: new jobs made of finished ones."""

from __future__ import annotations

from fastapi import Request, Response

from api.access import caller_of
from api.forms.json_request import json_request, receive_json
from api.openapi import headers_of
from api.problem import problem_responses
from api.routing import Routes, route
from api.v1.protocol import JobView
from api.v1.waiting import accepted
from jobs.model.files import new_id
from jobs.model.revision import Revision
from jobs.ports import JobService


class RevisionRoutes(Routes, prefix="/v1/jobs/{job_id}", tags=["jobs"]):
    """Handler of revisions."""

    def __init__(self, service: JobService) -> None:
        self._service = service

    @route(
        "/revisions",
        "POST",
        status_code=202,
        response_model=JobView,
        summary="Revise a finished job",
        openapi_extra=json_request(Revision),
        responses={202: {"headers": headers_of("Location")}, **problem_responses(404, 409, 413, 422, 429, 507)},
    )
    async def revise_job(self, job_id: str, request: Request) -> Response:
        """Make a new job of one that has succeeded, with changed turns or options. The finished job remains.

        Texts that stay the same are not spoken again, and parts of the video that stay the same are not rendered again.
        """
        revision = await receive_json(request, Revision)
        job = await self._service.revise_job(job_id, new_id(), revision, caller_of(request).owner)
        return accepted(job, request)
