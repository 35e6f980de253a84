"""Submissions with `?wait=`: the response is sent when the job ends."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from fastapi import Request, Response
from starlette.responses import JSONResponse

from lipwright.api.base_url import base_url
from lipwright.api.problem import job_problem
from lipwright.api.result_file import result_file_response
from lipwright.api.v1.event_streams import EventStreams
from lipwright.api.v1.protocol import JobView
from lipwright.errors import BusyError, LipwrightError
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.storage.file_store import FileStore

MAX_WAIT_S = 600.0
"""Maximum value of `wait`; most proxies time out earlier."""
NO_STORE = {"Cache-Control": "no-store"}


async def wait_until_final(streams: EventStreams, job: JobRecord, owner: str | None, wait_s: float) -> JobRecord:
    """Wait until the job ends or is in review, at most `wait_s`.

    Returns earlier if there are too many streams, or if the job cannot be read for now: it has been accepted.
    """
    try:
        stream = streams.enter(job, owner)
    except BusyError:
        return job
    feed = stream.feed
    try:
        async with asyncio.timeout(wait_s):
            while not job.status.is_final and job.status is not JobStatus.REVIEW:
                number = feed.number
                job = feed.job if feed.job.version > job.version else await feed.after(number)
    except (TimeoutError, LipwrightError) as error:
        if isinstance(error, LipwrightError) and not error.retryable:
            raise
    finally:
        stream.leave()
    return job


def accepted(job: JobRecord, request: Request) -> Response:
    """Return 202 with the job."""
    view = JobView.of(job, base_url(request))
    return JSONResponse(view.model_dump(mode="json"), 202, {"Location": view.links.self, **NO_STORE})


async def outcome(job: JobRecord, files: FileStore, request: Request) -> Response:
    """Return 200 with the job if it has ended, else 202.

    Clients that accept `video/mp4` get the video instead of a succeeded job, and the problem instead of a failed one.
    """
    if not job.status.is_final:
        return accepted(job, request)
    view = JobView.of(job, base_url(request))
    headers = {"Location": view.links.self, **NO_STORE}
    if "video/mp4" in request.headers.get("accept", ""):
        if job.error is not None:
            return job_problem(job.error, urlsplit(view.links.self).path)
        response = await result_file_response(job, files, request)
        response.headers.update(headers)
        return response
    return JSONResponse(view.model_dump(mode="json"), 200, headers)
