"""`?wait=`: a submission that is answered with what came of it."""

from __future__ import annotations

import asyncio

from fastapi import Request, Response
from starlette.responses import JSONResponse

from api.problem import job_problem
from api.v1.pictures import video_response
from api.v1.views import JobView
from jobs.ports import JobService
from storage.local.file_store import FileStore
from storage.records import JobRecord

MAX_WAIT_S = 600.0
"""Longest wait that a request may ask for; most proxies give up earlier."""
NO_STORE = {"Cache-Control": "no-store"}
_LOOK_S = 10.0


async def wait_until_final(service: JobService, job: JobRecord, wait_s: float) -> JobRecord:
    """The job when it is final, or as it is after `wait_s`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    while not job.status.is_final and (left_s := deadline - loop.time()) > 0:
        job = await service.wait_job(job.id, job.version, min(left_s, _LOOK_S))
    return job


def accepted(job: JobRecord, request: Request, headers: dict[str, str]) -> Response:
    """202 and the job, whatever its status."""
    view = JobView.of(job, request.scope.get("root_path", ""))
    return JSONResponse(view.model_dump(mode="json"), 202, {"Location": view.links.self, **NO_STORE, **headers})


def outcome(job: JobRecord, files: FileStore, request: Request, headers: dict[str, str]) -> Response:
    """200 and the job if it is final, else what `accepted` says.

    A client that accepts `video/mp4` gets the video itself in place of a job that succeeded, and the problem in place
    of one that failed.
    """
    if not job.status.is_final:
        return accepted(job, request, headers)
    view = JobView.of(job, request.scope.get("root_path", ""))
    headers = {"Location": view.links.self, **NO_STORE, **headers}
    if "video/mp4" in request.headers.get("accept", ""):
        if job.error is not None:
            return job_problem(job.error, view.links.self)
        response = video_response(job, files)
        response.headers.update(headers)
        return response
    return JSONResponse(view.model_dump(mode="json"), 200, headers)
