"""The routes under /v1/backgrounds."""

from __future__ import annotations

from fastapi import Request

from lipwright.api.access import caller_of
from lipwright.api.forms.form_receiver import FormReceiver
from lipwright.api.forms.form_schema import form_body
from lipwright.api.problem import problem_responses
from lipwright.api.routing import Routes, route
from lipwright.api.v1.protocol import BackgroundView
from lipwright.config import PipelineConfig
from lipwright.jobs.ports import JobService
from lipwright.jobs.requests import BackgroundForm, UploadContext
from lipwright.storage.file_store import FileStore


class BackgroundRoutes(Routes, prefix="/v1/backgrounds", tags=["backgrounds"]):
    """Handlers of /v1/backgrounds."""

    def __init__(self, service: JobService, files: FileStore, config: PipelineConfig) -> None:
        self._service = service
        self._receiver = FormReceiver(service, files, config)

    @route(
        "",
        "POST",
        status_code=201,
        summary="Store a background",
        openapi_extra=form_body(BackgroundForm),
        responses=problem_responses(413, 422, 429, 504, 507),
    )
    async def create_background(self, request: Request) -> BackgroundView:
        """Upload a picture or a video, to use its ID as `background_id` of jobs, avatars and `WS /v1/live`.

        Uploading the same file again returns the same ID. A background that no avatar uses is deleted when no
        job or session has started with it for as long as finished jobs are kept.
        """
        async with self._receiver.receive(request, BackgroundForm) as (form, admission_id):
            context = UploadContext(admission_id=admission_id, owner=caller_of(request).owner)
            background = await self._service.create_background(form, context)
        return BackgroundView.of(background)

    @route(
        "/{background_id}",
        "DELETE",
        status_code=204,
        summary="Delete a background",
        responses=problem_responses(404, 409),
    )
    async def delete_background(self, background_id: str, request: Request) -> None:
        """Delete the background. Sessions that show it end with an error. Fails while an avatar uses it."""
        await self._service.delete_background(background_id, caller_of(request).owner)
