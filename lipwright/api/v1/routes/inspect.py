"""The route /v1/inspect: reads the labels of an uploaded file."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

from fastapi import Request
from pydantic import BaseModel, Field

from lipwright.api.access import caller_of
from lipwright.api.base_url import base_url
from lipwright.api.forms.form_receiver import FormReceiver
from lipwright.api.forms.form_schema import form_body
from lipwright.api.problem import problem_responses
from lipwright.api.routing import Routes, route
from lipwright.api.v1.protocol import JobSummaryView
from lipwright.config import PipelineConfig
from lipwright.jobs.fair_queue import NICENESS, FairQueue, run_in_thread
from lipwright.jobs.model.base import FilePart, RequestModel, UploadedFile, example
from lipwright.jobs.model.record import JobQuery
from lipwright.jobs.ports import JobService
from lipwright.jobs.sources.client_names import client_names
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.decoder import Decoders
from lipwright.media.labels.inspection import Verdict, inspect_as_json
from lipwright.storage.file_keys import upload_key
from lipwright.storage.file_store import FileStore

_TIMEOUT_S: Final = 120.0
_MAX_JOBS: Final = 20


class InspectForm(RequestModel):
    """Inspect a file. Send it as multipart form data or as JSON."""

    model_config = example(file_url="https://example.com/video.mp4")

    file: FilePart = Field(description="A video, audio or image file of any origin.")


class WatermarkView(BaseModel):
    """The invisible watermark of a video."""

    identifier: str = Field(description="What it carries, 16 hexadecimal digits.")
    confidence: float = Field(description="Share of its bits that were received correctly, before error correction.")
    false_positive_rate: float = Field(
        description="Upper bound of the probability that a watermark is found in a video without one."
    )
    start_seconds: float = Field(description="Start of the part of the video in which it was found.")
    end_seconds: float = Field(description="End of that part.")
    others: list[str] = Field(description="Identifiers of marked videos that were used as the source of this one.")


class FileLabels(BaseModel):
    """The labels of a file."""

    verdict: Verdict = Field(description="`unlabelled` does not mean that the file is genuine.")
    description: list[str] = Field(description="The same in sentences.")
    aigc: dict[str, Any] | None = Field(description="The `AIGC` tag (GB 45438-2025); null without one.")
    is_aigc_broken: bool = Field(description="Whether the tag cannot be read.")
    comment: str = Field(description="The comment tag, of any origin.")
    c2pa: dict[str, Any] | None = Field(description="Summary of the C2PA manifest; null without one.")
    c2pa_error: str = Field(description="Why the manifest cannot be read.")
    watermark: WatermarkView | None = Field(description="Lipwright's invisible watermark; null if none was found.")


class Inspection(FileLabels):
    """The labels of a file, and the jobs that made it."""

    jobs: list[JobSummaryView] = Field(description="Your jobs whose videos carry this watermark, the newest first.")


class InspectRoutes(Routes, prefix="/v1", tags=["labels"]):
    """Handlers of /v1/inspect. Each replica inspects one file at a time; API keys take turns."""

    def __init__(self, service: JobService, files: FileStore, config: PipelineConfig) -> None:
        self._service, self._files, self._limits = service, files, config.limits
        self._receiver = FormReceiver(service, files, config)
        self._decoders = Decoders(config.decoder, niceness=NICENESS)
        self._queue = FairQueue("inspection")

    @route(
        "/inspect",
        "POST",
        summary="Read the labels of a file",
        openapi_extra=form_body(InspectForm),
        responses=problem_responses(413, 422, 429, 503, 504, 507),
    )
    async def inspect_file(self, request: Request) -> Inspection:
        """Say whether a file of any origin is labelled as synthetic: tag, C2PA manifest, invisible watermark.

        The watermark is searched in the first minute of a video, without any metadata. The file is deleted afterwards.
        """
        owner = caller_of(request).owner
        async with self._receiver.receive(request, InspectForm) as (form, admission_id):
            try:
                labels = await self._inspect(form.file, owner)
            finally:
                await asyncio.to_thread(self._files.drop_uploads, form.file)
                await self._service.release(admission_id)
        jobs: list[JobSummaryView] = []
        if labels.watermark is not None:
            query = JobQuery(limit=_MAX_JOBS, owner=owner, watermark_id=labels.watermark.identifier)
            jobs = [JobSummaryView.of(job, base_url(request)) for job in (await self._service.list_jobs(query)).jobs]
        return Inspection(**dict(labels), jobs=jobs)

    async def _inspect(self, file: UploadedFile, owner: str | None) -> FileLabels:
        """Read the labels in a decoder process.

        Raises:
            BusyError: Too many files wait.
            MediaError: The file cannot be opened.
            MediaLimitError: It exceeds a limit.
            StageTimeoutError: It took too long.
        """
        async with self._queue.turn(owner):
            with client_names(file):
                return await run_in_thread(partial(self._labels, file))

    def _labels(self, file: UploadedFile, token: CancelToken) -> FileLabels:
        with self._files.stored.fetched(upload_key(file.key)) as path:
            work = partial(inspect_as_json, path, self._limits)
            reply = self._decoders.run(work, file=path, timeout_s=_TIMEOUT_S, token=token)
        return FileLabels.model_validate_json(reply)
