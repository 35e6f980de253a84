"""The routes under /v1/jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import StreamingResponse

from api.access import caller_of
from api.base_url import base_url
from api.forms.form_receiver import IDEMPOTENCY_KEY, FormReceiver
from api.forms.form_schema import form_body
from api.openapi import BINARY, IDEMPOTENT, headers_of
from api.problem import problem_responses
from api.v1.events import PING_S, job_events
from api.v1.followers import Followers, FollowResponse
from api.v1.protocol import JobForm, JobList, JobView, parsed_metadata
from api.v1.waiting import MAX_WAIT_S, NO_STORE, accepted, outcome, wait_until_final
from config import PipelineConfig
from jobs.job_request import JobRequestBuilder
from jobs.ports import JobService
from net.ssrf_guard import SsrfGuard
from storage.file_store import FileStore
from storage.records import JobQuery, JobRecord, JobStatus


class JobRoutes:
    """Handlers over a `JobService` and the files that it shares."""

    def __init__(self, service: JobService, files: FileStore, config: PipelineConfig) -> None:
        self._service = service
        self._files = files
        self._receiver = FormReceiver(service, files, config)
        self._requests = JobRequestBuilder(config.engine, SsrfGuard(config.network).check)
        self._followers = Followers(service, config.jobs.max_followers, config.jobs.max_queue_share_per_key, PING_S)

    def router(self) -> APIRouter:
        """The routes with what OpenAPI says of them."""
        router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
        headers = headers_of("Location", "Idempotency-Replayed")
        router.add_api_route(
            "",
            self.submit,
            methods=["POST"],
            status_code=202,
            response_model=JobView,
            summary="Submit a job",
            operation_id="submit_job",
            openapi_extra={**form_body(JobForm), **IDEMPOTENT},
            responses={
                200: {
                    "description": "The job, or its video, if it ended within `wait`.",
                    "model": JobView,
                    "content": {"application/json": {}, "video/mp4": BINARY},
                    "headers": headers,
                },
                202: {"headers": headers},
                **problem_responses(404, 409, 413, 422, 429, 504, 507),
            },
        )
        router.add_api_route(
            "", self.list_jobs, summary="List jobs", responses=problem_responses(422), operation_id="list_jobs"
        )
        router.add_api_route(
            "/{job_id}", self.get_job, summary="Look at a job", responses=problem_responses(404), operation_id="get_job"
        )
        router.add_api_route(
            "/{job_id}",
            self.delete,
            methods=["DELETE"],
            summary="Cancel or remove a job",
            responses=problem_responses(404, 409),
            operation_id="delete_job",
        )
        router.add_api_route(
            "/{job_id}/cancel",
            self.cancel,
            methods=["POST"],
            summary="Cancel a job",
            responses=problem_responses(404),
            operation_id="cancel_job",
        )
        router.add_api_route(
            "/{job_id}/events",
            self.events,
            summary="Follow a job",
            operation_id="follow_job",
            response_class=StreamingResponse,
            responses={
                200: {
                    "description": "One event `job` per change.",
                    "content": {"text/event-stream": {"schema": {"type": "string"}}},
                },
                204: {"description": "The job is finished and the client knows it."},
                **problem_responses(404, 503),
            },
        )
        return router

    async def submit(
        self,
        request: Request,
        wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait for the job's end.")] = 0.0,
    ) -> Response:
        """Send an avatar (`video`, or the `avatar_id` of a known one) and speech (`audio`), and get a job.

        The answer comes when both files were received and opened; the work goes on in the background. With a header
        `Idempotency-Key`, sending the same again gives the same job; another request with that key is refused.

        With `wait`, the answer comes when the job has ended, then with status 200, or after so many seconds. A client
        that accepts `video/mp4` gets the video itself then, or the problem that ended the job.
        """
        caller, key = caller_of(request), request.headers.get(IDEMPOTENCY_KEY)
        async with self._receiver.admit(request, JobForm, key) as admission:
            if admission.job is not None:
                job = await self._receiver.compare(request, JobForm, admission)
                return await self._answer(job, request, wait, {"Idempotency-Replayed": "true"})
            async with self._receiver.receive(request, JobForm, admission) as (form, digest):
                job_request = self._requests.build(
                    caller,
                    admission_id=admission.id,
                    audio=form.speech,
                    video=form.video,
                    avatar_id=form.avatar_id,
                    face_image=form.face_image,
                    engine=form.engine,
                    face=form.face,
                    loop=form.loop,
                    visible_label=form.visible_label,
                    priority=form.priority if "priority" in form.model_fields_set else None,
                    callback_url=form.callback_url,
                    metadata=form.metadata,
                    idempotency_key=key,
                    request_digest=digest,
                    base_url=base_url(request),
                )
                job = await self._service.submit(job_request)
        return await self._answer(job, request, wait, {})

    async def _answer(self, job: JobRecord, request: Request, wait_s: float, headers: dict[str, str]) -> Response:
        if not wait_s:
            return accepted(job, request, headers)
        job = await wait_until_final(self._followers, job, caller_of(request).owner, wait_s)
        return await outcome(job, self._files, request, headers)

    async def list_jobs(
        self,
        request: Request,
        limit: Annotated[int, Query(ge=1, le=500, description="How many at most.")] = 50,
        status: Annotated[JobStatus | None, Query(description="Only jobs of this status.")] = None,
        metadata: Annotated[
            str | None, Query(description="Only jobs that bear all of these words, a JSON object of texts.")
        ] = None,
        after: Annotated[int | None, Query(ge=0, description="The `next_after` of the page before.")] = None,
    ) -> JobList:
        """The newest jobs first, page by page. Jobs that come or go meanwhile move nothing on the next page."""
        query = JobQuery(
            limit=limit,
            owner=caller_of(request).owner,
            status=status,
            metadata=parsed_metadata(metadata) if metadata else {},
            after=after,
        )
        page = await self._service.list_jobs(query)
        return JobList(jobs=[_view(job, request) for job in page.jobs], next_after=page.next_after)

    async def get_job(self, job_id: str, request: Request) -> JobView:
        """The job as it is now."""
        return _view(await self._service.get_job(job_id, caller_of(request).owner), request)

    async def cancel(self, job_id: str, request: Request) -> JobView:
        """Cancel the job. Cancelling twice, or a finished job, changes nothing."""
        return _view(await self._service.cancel_job(job_id, caller_of(request).owner), request)

    async def delete(self, job_id: str, request: Request) -> JobView:
        """Cancel an unfinished job; remove a finished one with its files. The answer is the job as it was then.

        A webhook that is still due is not sent for a job that was removed.
        """
        owner = caller_of(request).owner
        job = await self._service.get_job(job_id, owner)
        if not job.status.is_final:
            return _view(await self._service.cancel_job(job_id, owner), request)
        await self._service.delete_job(job_id, owner)
        return _view(job, request)

    async def events(
        self,
        job_id: str,
        request: Request,
        last_event_id: Annotated[str | None, Header(description="Version that the client has seen.")] = None,
    ) -> Response:
        """Server-sent events: `event: job` with the job as JSON, its version as id.

        A comment comes every ten seconds, and the stream ends after a final status.
        """
        seen = int(last_event_id) if last_event_id and last_event_id.isdecimal() and len(last_event_id) < 12 else 0
        job = await self._service.get_job(job_id, caller_of(request).owner)
        if job.status.is_final and job.version == seen:
            return Response(status_code=204)  # tells an EventSource not to come again
        follower = self._followers.enter(job, caller_of(request).owner)
        stream = job_events(follower.feed, job, seen, base_url(request))
        headers = {**NO_STORE, "X-Accel-Buffering": "no"}
        return FollowResponse(follower, stream, media_type="text/event-stream", headers=headers)


def _view(job: JobRecord, request: Request) -> JobView:
    return JobView.of(job, base_url(request))
