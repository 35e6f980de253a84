"""The routes under /easy."""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from typing import Annotated, Any, Final

from fastapi import Query, Request, Response
from starlette.responses import FileResponse

from lipwright.api.access import caller_of
from lipwright.api.forms.json_request import receive_body
from lipwright.api.heygem.data_root import DataRoot, result_name
from lipwright.api.heygem.errors import Code, envelope, in_envelope
from lipwright.api.heygem.inputs import HeygemInputs
from lipwright.api.heygem.protocol import HeygemTask, checked_code, task_of
from lipwright.api.openapi import RANGED
from lipwright.api.problem import problem_responses
from lipwright.api.result_file import result_file_response
from lipwright.api.routing import Routes, route
from lipwright.config import PipelineConfig
from lipwright.errors import InputError, MediaLimitError, NotFoundError
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.ports import JobService
from lipwright.jobs.requests import RequestContext, priority_of
from lipwright.storage.file_keys import result_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.key_ring import KeyRing

logger = logging.getLogger(__name__)

_KEY_PREFIX = "heygem:"  # idempotency keys map codes to jobs, and survive restarts with them

_DOWNLOAD: Final[dict[str, Any]] = {
    "summary": "Download the video of a task",
    "response_class": FileResponse,
    "responses": {**RANGED, **problem_responses(404, 409, 416)},
}


class HeygemRoutes(Routes, prefix="/easy", tags=["heygem"]):
    """Handlers of /easy/*."""

    def __init__(self, service: JobService, files: FileStore, config: PipelineConfig, keys: KeyRing) -> None:
        settings, root = config.heygem, config.heygem.root
        self._service = service
        self._files = files
        self._is_strict = settings.strict
        self._super_resolution_engine = settings.super_resolution_engine
        self._root = None if root is None else DataRoot(root, lambda: len(keys.list()))
        self._inputs = HeygemInputs(service, files, config, self._root)
        self._arriving: set[tuple[str | None, str]] = set()
        self._one_at_a_time = asyncio.Lock()

    @route("/submit", "POST", summary="Submit a task")
    @in_envelope
    async def easy_submit(self, request: Request) -> Response:
        """Submit a task: JSON with `audio_url`, `video_url` and `code`, under any content type.

        Returns when both inputs are received and validated; 10001 if the service is full.
        """
        task, owner = HeygemTask.of(await _body(request)), caller_of(request).owner
        if (owner, task.code) in self._arriving:
            return envelope(Code.RUNNING, {"code": task.code, "current_status": 1})
        if self._is_strict and self._one_at_a_time.locked():
            return envelope(Code.BUSY)
        self._arriving.add((owner, task.code))
        try:
            async with self._one_at_a_time if self._is_strict else nullcontext():  # only one finds the service idle
                return await self._accept(request, task)
        finally:
            self._arriving.discard((owner, task.code))

    @route("/query", summary="Get a task")
    @in_envelope
    async def easy_query(self, request: Request, code: str = "") -> Response:
        """Return the state of a task: `data.status` is 1 while it runs, 2 when it succeeded, 3 if it failed.

        A failure is reported once; after that the task is unknown (10004).
        """
        if not code:
            return envelope(Code.PARAMETER, msg="code参数缺失")
        if (job := await self._find_job(request, code)) is None:
            return envelope(Code.UNKNOWN)
        if job.status is JobStatus.SUCCEEDED and self._root is not None:
            await asyncio.to_thread(self._keep_result, self._root, checked_code(code), job.id)
        if job.status.is_final and (self._is_strict or job.status is not JobStatus.SUCCEEDED):
            # As in the original: clients that poll until 10004 would poll a failed task forever.
            await self._service.release_idempotency_key(job.id, caller_of(request).owner)
        return envelope(Code.OK, task_of(job, code), msg="")

    @route("/cancel", "POST", summary="Cancel a task")
    @in_envelope
    async def easy_cancel(self, request: Request, code: str = "") -> Response:
        """Cancel a task. `code` is a query parameter or a JSON field; the response is that of `/easy/query`."""
        code = code or HeygemTask.code_of(await _body(request))
        if code and (job := await self._find_job(request, code)) is not None:
            await self._service.cancel_job(job.id, caller_of(request).owner)
        return await self.easy_query(request, code)

    @route("/download", "HEAD", include_in_schema=False)
    @route("/download", **_DOWNLOAD)
    async def easy_download(
        self, request: Request, code: Annotated[str, Query(description="Code of the task.")]
    ) -> Response:
        """Return the finished video. Supports range requests."""
        return await result_file_response(await self._find(request, code), self._files, request)

    @route("/download/{file_name}", "HEAD", include_in_schema=False)
    @route("/download/{file_name}", **_DOWNLOAD)
    async def easy_download_by_name(self, request: Request, file_name: str) -> Response:
        """Return the finished video by the `result` of its task."""
        return await result_file_response(
            await self._find(request, file_name.removesuffix(result_name(""))), self._files, request
        )

    async def _accept(self, request: Request, task: HeygemTask) -> Response:
        if self._is_strict and await self._is_busy():
            return envelope(Code.BUSY)
        known, caller = await self._find_job(request, task.code), caller_of(request)
        if known is not None and not known.status.is_final:
            return envelope(Code.RUNNING, {"code": task.code, "current_status": 1})
        names = {"audio": task.audio, "video": task.video}
        async with self._inputs.receive(request, names) as (admission, parts):
            if known is not None:
                await self._service.release_idempotency_key(known.id, caller.owner)
            spec = JobSpec(
                audio=parts.files["audio"],
                video=parts.files["video"],
                loop=task.loop,
                visible_label=task.marks_bottom,
                visible_label_top=task.marks_top,
                engine=self._super_resolution_engine if task.sharpens else None,
            )
            context = RequestContext(
                admission_id=admission.id,
                owner=caller.owner,
                priority=priority_of(caller, spec),
                idempotency_key=_KEY_PREFIX + task.code,
            )
            await self._service.submit(spec, context)
        return envelope(Code.OK, msg=int(Code.OK))  # a number, as the original sends it

    def _keep_result(self, root: DataRoot, code: str, job_id: str) -> None:
        if root.is_shared:
            logger.warning("/easy/query: job %s: result not copied to heygem.root: there are several API keys", job_id)
            return
        with self._files.stored.fetched(result_key(job_id)) as result:
            root.keep_result(code, result)

    async def _find(self, request: Request, code: str) -> JobRecord:
        if (job := await self._find_job(request, code)) is None:
            raise NotFoundError(f"Task {code[:80]!r} does not exist.")
        return job

    async def _find_job(self, request: Request, code: str) -> JobRecord | None:
        return await self._service.find_job(_KEY_PREFIX + code, caller_of(request).owner)

    async def _is_busy(self) -> bool:
        queue = (await self._service.status()).queue
        return bool(queue.num_queued or queue.num_running or queue.num_arriving)


async def _body(request: Request) -> bytes:
    try:
        return await receive_body(request)
    except MediaLimitError as error:
        raise InputError(f"参数异常: {error}") from None
