"""The routes under /v1/jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Query, Request, Response
from starlette.responses import StreamingResponse

from lipwright.api.access import caller_of
from lipwright.api.base_url import base_url
from lipwright.api.forms.form_receiver import FormReceiver
from lipwright.api.forms.form_schema import form_body
from lipwright.api.openapi import BINARY, IDEMPOTENT, headers_of
from lipwright.api.problem import problem_responses
from lipwright.api.routing import Routes, route
from lipwright.api.v1.event_streams import PING_S, EventStreamResponse, EventStreams, job_events
from lipwright.api.v1.protocol import JobList, JobSummaryView, JobView, parsed_metadata
from lipwright.api.v1.waiting import MAX_WAIT_S, NO_STORE, accepted, outcome, wait_until_final
from lipwright.config import PipelineConfig
from lipwright.errors import UrlRefusedError, with_name
from lipwright.jobs.model.base import new_id
from lipwright.jobs.model.record import JobQuery, JobRecord, JobStatus
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.ports import JobService
from lipwright.net.ssrf_guard import SsrfGuard
from lipwright.storage.file_store import FileStore
from lipwright.storage.protocols import MAX_INTEGER

_HEADERS = headers_of("Location", "Idempotency-Replayed")


class JobRoutes(Routes, prefix="/v1/jobs", tags=["jobs"]):
    """Handlers of /v1/jobs."""

    def __init__(self, service: JobService, files: FileStore, config: PipelineConfig) -> None:
        self._service = service
        self._files = files
        self._receiver = FormReceiver(service, files, config)
        self._guard = SsrfGuard(config.network)
        self._streams = EventStreams(
            service, config.jobs.max_event_streams, config.jobs.max_queue_share_per_key, PING_S
        )

    @route(
        "",
        "POST",
        status_code=202,
        response_model=JobView,
        summary="Submit a job",
        openapi_extra={**form_body(JobSpec), **IDEMPOTENT},
        responses={
            200: {
                "description": "The job ended within `wait`: the job, or its video.",
                "model": JobView,
                "content": {"application/json": {}, "video/mp4": BINARY},
                "headers": _HEADERS,
            },
            202: {"headers": _HEADERS},
            **problem_responses(404, 409, 413, 422, 429, 504, 507),
        },
    )
    async def submit_job(
        self,
        request: Request,
        wait: Annotated[
            float, Query(ge=0, le=MAX_WAIT_S, description="Maximum time to wait for the job to end, in seconds.")
        ] = 0.0,
    ) -> Response:
        """Submit a face (`video` or `avatar_id`) and speech (`audio` or `text`).

        Several people speak in one video with `turns`, or with what turns are made of: `subtitles`, or `audio` and its
        `diarization`. The result then has the length of the video, and its own picture and sound outside of turns.

        Returns as soon as the files are received and validated; rendering continues in the background. With an
        `Idempotency-Key` header, repeating the request returns the same job; a different request with the same key
        is rejected.

        With `wait`, the response is sent when the job ends (status 200) or the time is up (status 202). Clients that
        accept `video/mp4` then receive the video itself, or the problem that ended the job.
        """
        job, is_replayed = await self._receiver.submit(request, JobSpec, self._check_callback)
        if wait:
            job = await wait_until_final(self._streams, job, caller_of(request).owner, wait)
        response = await outcome(job, self._files, request) if wait else accepted(job, request)
        if is_replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return response

    def _check_callback(self, spec: JobSpec) -> JobSpec:
        if spec.callback_url is not None:
            try:
                self._guard.check(spec.callback_url)
            except UrlRefusedError as error:
                raise with_name(error, "callback_url") from error
        return spec

    @route("", summary="List jobs", responses=problem_responses(422))
    async def list_jobs(
        self,
        request: Request,
        limit: Annotated[int, Query(ge=1, le=500, description="Maximum number of jobs.")] = 50,
        status: Annotated[JobStatus | None, Query(description="Filter by status.")] = None,
        metadata: Annotated[
            str | None, Query(description="Filter by metadata: a JSON object whose pairs the job must contain.")
        ] = None,
        after: Annotated[
            int | None, Query(ge=0, le=MAX_INTEGER, description="`next_after` of the previous page.")
        ] = None,
    ) -> JobList:
        """List summaries of jobs, newest first. Pages stay stable while jobs are added or removed.

        A page may have fewer than `limit` jobs, because its size is limited too: continue until `next_after` is null.
        """
        query = JobQuery(
            limit=limit,
            owner=caller_of(request).owner,
            status=status,
            metadata=parsed_metadata(metadata) if metadata else {},
            after=after,
        )
        page = await self._service.list_jobs(query)
        base = base_url(request)
        return JobList(jobs=[JobSummaryView.of(job, base) for job in page.jobs], next_after=page.next_after)

    @route("/{job_id}", summary="Get a job", responses=problem_responses(404))
    async def get_job(self, job_id: str, request: Request) -> JobView:
        """Return the current state of the job."""
        return _view(await self._service.get_job(job_id, caller_of(request).owner), request)

    @route("/{job_id}", "DELETE", summary="Cancel or delete a job", responses=problem_responses(404, 409))
    async def delete_job(self, job_id: str, request: Request) -> JobView:
        """Cancel an unfinished job, or delete a finished one with its files. Returns the job.

        Pending webhooks of a deleted job are not sent.
        """
        owner = caller_of(request).owner
        job = await self._service.get_job(job_id, owner)
        if not job.status.is_final:
            return _view(await self._service.cancel_job(job_id, owner), request)
        await self._service.delete_job(job_id, owner)
        return _view(job, request)

    @route("/{job_id}/cancel", "POST", summary="Cancel a job", responses=problem_responses(404))
    async def cancel_job(self, job_id: str, request: Request) -> JobView:
        """Cancel the job. Has no effect on a job that has ended."""
        return _view(await self._service.cancel_job(job_id, caller_of(request).owner), request)

    @route(
        "/{job_id}/retry",
        "POST",
        status_code=202,
        response_model=JobView,
        summary="Retry a failed job",
        responses={202: {"headers": headers_of("Location")}, **problem_responses(404, 409, 429, 507)},
    )
    async def retry_job(self, job_id: str, request: Request) -> Response:
        """Submit a failed job again, with the same files and options. Returns the new job; the failed one remains."""
        return accepted(await self._service.retry_job(job_id, new_id(), caller_of(request).owner), request)

    @route(
        "/{job_id}/events",
        summary="Stream the events of a job",
        response_class=StreamingResponse,
        responses={
            200: {
                "description": "One `job` event per change.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            204: {"description": "The job has ended and the client has seen its final state."},
            **problem_responses(404, 503),
        },
    )
    async def follow_job(
        self,
        job_id: str,
        request: Request,
        last_event_id: Annotated[str | None, Header(description="Last version the client has seen.")] = None,
    ) -> Response:
        """Stream server-sent events: `event: job` with the job as JSON and its version as ID.

        A comment is sent every ten seconds as keep-alive. The stream ends after a final status.
        """
        seen = int(last_event_id) if last_event_id and last_event_id.isdecimal() and len(last_event_id) < 12 else 0
        job = await self._service.get_job(job_id, caller_of(request).owner)
        if job.status.is_final and job.version == seen:
            return Response(status_code=204)  # tells an EventSource not to reconnect
        stream = self._streams.enter(job, caller_of(request).owner)
        events = job_events(stream.feed, job, seen, base_url(request))
        headers = {**NO_STORE, "X-Accel-Buffering": "no"}
        return EventStreamResponse(stream, events, media_type="text/event-stream", headers=headers)


def _view(job: JobRecord, request: Request) -> JobView:
    return JobView.of(job, base_url(request))
