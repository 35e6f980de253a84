"""The routes under /v1/videos: jobs in the format of OpenAI's video API."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Final, Literal

from fastapi import Query, Request, Response
from starlette.responses import FileResponse, JSONResponse

from lipwright.api.access import caller_of
from lipwright.api.forms.form_receiver import FormReceiver
from lipwright.api.forms.form_schema import form_body
from lipwright.api.openai.protocol import VideoDeleted, VideoForm, VideoList, VideoView, error_responses
from lipwright.api.openapi import BINARY, IDEMPOTENT, RANGED
from lipwright.api.result_file import result_file_response, thumbnail_response
from lipwright.api.routing import Routes, route
from lipwright.config import PipelineConfig
from lipwright.errors import MediaError, StoredFileError
from lipwright.jobs.model.record import JobQuery, JobStatus, JobSummary
from lipwright.jobs.ports import JobService
from lipwright.media.preview import frame_size
from lipwright.storage.file_keys import result_key
from lipwright.storage.file_store import FileStore
from models.engines.registry import ENGINES

PREFIX: Final = "/v1/videos"
_MAX_SIZES = 1024
_CONTENT: Final[dict[int | str, dict[str, Any]]] = {
    **RANGED,
    200: {**RANGED[200], "content": {"video/mp4": BINARY, "image/jpeg": BINARY}},
}


class VideoRoutes(Routes, prefix=PREFIX, tags=["videos"]):
    """Handlers of /v1/videos."""

    def __init__(self, service: JobService, files: FileStore, config: PipelineConfig) -> None:
        self._service = service
        self._files = files
        self._keep_s = config.jobs.retention_s
        self._sizes: dict[str, str] = {}
        self._receiver = FormReceiver(service, files, config)

    @route(
        "",
        "POST",
        response_model=VideoView,
        summary="Create a video",
        openapi_extra={**form_body(VideoForm), **IDEMPOTENT},
        responses=error_responses(404, 409, 413, 422, 429, 504, 507),
    )
    async def create_video(self, request: Request) -> Response:
        """Create a video from a face (`input_reference` or `avatar_id`) and speech (`audio` or `prompt`).

        The video is a job: `/v1/jobs/{id}` has the details. An unknown `model` selects the default engine; `model` in
        the response is the engine in use.
        """
        job, _ = await self._receiver.submit(request, VideoForm, lambda form: form.spec(known_engine(form.model)))
        return JSONResponse((await self._view(job)).model_dump(mode="json"), headers={"Cache-Control": "no-store"})

    @route("", summary="List videos", responses=error_responses(404, 422))
    async def list_videos(
        self,
        request: Request,
        limit: Annotated[int, Query(ge=1, le=100, description="Maximum number of videos.")] = 20,
        after: Annotated[str | None, Query(description="ID of the last video of the previous page.")] = None,
        order: Annotated[Literal["asc", "desc"], Query(description="Sort order by creation time.")] = "desc",
    ) -> VideoList:
        """List all jobs as videos."""
        owner = caller_of(request).owner
        page = await self._service.list_jobs(
            JobQuery(limit=limit, owner=owner, after_id=after, oldest_first=order == "asc")
        )
        data = [await self._view(job) for job in page.jobs]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return VideoList(data=data, first_id=first, last_id=last, has_more=page.next_after is not None)

    @route("/{video_id}", summary="Get a video", responses=error_responses(404, 422))
    async def get_video(self, video_id: str, request: Request) -> VideoView:
        """Return the current state of the video."""
        return await self._view(await self._service.get_job(video_id, caller_of(request).owner))

    @route("/{video_id}", "DELETE", summary="Delete a video", responses=error_responses(404, 409, 422))
    async def delete_video(self, video_id: str, request: Request) -> VideoDeleted:
        """Delete the video and its job with all files. Cancels an unfinished job first."""
        owner = caller_of(request).owner
        job = await self._service.cancel_job(video_id, owner)
        await self._service.delete_job(job.id, owner)
        return VideoDeleted(id=job.id)

    @route("/{video_id}/content", "HEAD", include_in_schema=False)
    @route(
        "/{video_id}/content",
        summary="Download a video",
        response_class=FileResponse,
        responses={**_CONTENT, **error_responses(404, 409, 416, 422)},
    )
    async def download_video(
        self,
        video_id: str,
        request: Request,
        variant: Annotated[
            Literal["video", "thumbnail"], Query(description="The video, or a JPEG of its first frame.")
        ] = "video",
    ) -> Response:
        """Return the finished video, with support for range requests, or its thumbnail."""
        job = await self._service.get_job(video_id, caller_of(request).owner)
        if variant == "thumbnail":
            return await thumbnail_response(job, self._files.stored, request)
        return await result_file_response(job, self._files, request)

    async def _view(self, job: JobSummary) -> VideoView:
        is_made = job.status is JobStatus.SUCCEEDED
        size = await asyncio.to_thread(self._frame_size, job) if is_made else None
        return VideoView.of(job, size, self._keep_s)

    def _frame_size(self, job: JobSummary) -> str | None:
        """Return the frame size of a result as `WIDTHxHEIGHT`; None if the file is gone."""
        if (known := self._sizes.get(job.id)) is not None:
            return known
        try:
            with self._files.stored.fetched(result_key(job.id, job.format)) as path:
                width, height = frame_size(path)
        except (MediaError, StoredFileError):
            return None
        if len(self._sizes) >= _MAX_SIZES:
            self._sizes.clear()
        return self._sizes.setdefault(job.id, f"{width}x{height}")


def known_engine(model: str | None) -> str | None:
    """Return the engine that `model` names; None for models of other services, such as `sora-2`."""
    if model is None or re.split("[:+]", model)[0] not in ENGINES:
        return None
    return model
