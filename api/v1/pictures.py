"""What there is to see of jobs and avatars: the video, its preview and thumbnail, and the presenter as it was sent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import FileResponse, StreamingResponse

from api.access import caller_of
from api.problem import problem_responses
from api.result_file import ignore_unknown_ranges, result_file
from api.v1.preview import Previews
from config import LabelsConfig
from errors import NotFoundError, StateError
from jobs.ports import JobService
from media.preview.thumbnail import thumbnail
from storage.local.file_store import FileStore

_PRIVATE: Final = {"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
# What a stranger sent is shown as a picture or a film and never as a page.
_INERT: Final = {**_PRIVATE, "Content-Security-Policy": "sandbox; default-src 'none'"}
_SIGNATURES: Final = (
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"GIF8", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
    (b"ftyp", 4, "video/mp4"),
    (b"\x1a\x45\xdf\xa3", 0, "video/webm"),
)


class PictureRoutes:
    """Handlers over a `JobService` and the files that it shares."""

    def __init__(self, service: JobService, files: FileStore, labels: LabelsConfig) -> None:
        self._service = service
        self._files = files
        self._previews = Previews(service, files, labels)

    def router(self) -> APIRouter:
        """The routes with what OpenAPI says of them."""
        router = APIRouter(prefix="/v1", tags=["jobs"])
        job = "/jobs/{job_id}"
        video: dict[int | str, dict[str, Any]] = {
            200: {"content": {"video/mp4": {}}},
            206: {"description": "The range that was asked for."},
        }
        router.add_api_route(
            f"{job}/video",
            self.video,
            summary="Get the video",
            response_class=FileResponse,
            responses={**video, **problem_responses(404, 409, 416)},
        )
        router.add_api_route(f"{job}/video", self.video, methods=["HEAD"], include_in_schema=False)
        router.add_api_route(
            f"{job}/preview",
            self.preview,
            summary="Watch the video while it is rendered",
            response_class=StreamingResponse,
            responses={
                200: {"description": "A fragmented MP4 that ends with the job.", "content": {"video/mp4": {}}},
                **problem_responses(404, 409, 429),
            },
        )
        router.add_api_route(
            f"{job}/thumbnail",
            self.thumbnail,
            summary="Get a small picture of the video",
            response_class=Response,
            responses={200: {"content": {"image/jpeg": {}}}, **problem_responses(404, 409)},
        )
        sources = problem_responses(404, 416)
        router.add_api_route(
            f"{job}/source",
            self.job_source,
            summary="Get its presenter",
            response_class=FileResponse,
            responses=sources,
        )
        router.add_api_route(
            "/avatars/{avatar_id}/source",
            self.avatar_source,
            summary="Get its presenter",
            tags=["avatars"],
            response_class=FileResponse,
            responses=sources,
        )
        return router

    async def video(
        self,
        job_id: str,
        request: Request,
        download: Annotated[bool, Query(description="Offer to save the file instead of showing it.")] = False,
    ) -> FileResponse:
        """The finished video, whole or in ranges."""
        job = await self._service.get_job(job_id, caller_of(request).owner)
        return result_file(job, self._files, request, download)

    async def preview(self, job_id: str, request: Request) -> StreamingResponse:
        """The video from its first frame on, while it is rendered; the answer ends when the job does.

        Its sound is the speech at 16 kHz until the job has ended. Made for Media Source Extensions; a `<video src>`
        plays it, too.
        """
        job = await self._service.get_job(job_id, caller_of(request).owner)
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._previews.open(job), media_type="video/mp4", headers=headers)

    async def thumbnail(self, job_id: str, request: Request) -> Response:
        """A JPEG of the first frame, its longer side 320 pixels; there as soon as one second is rendered."""
        job = await self._service.get_job(job_id, caller_of(request).owner)
        path = self._files.result_path(job.id)
        if not path.is_file():
            path = self._files.segment_path(job.id, 0)
        if not path.is_file():
            raise StateError(f"Job {job.id} has no picture: expected a rendered segment, found it {job.status}.")
        picture = await asyncio.to_thread(thumbnail, path)
        headers = {**_PRIVATE, "Cache-Control": "private, max-age=86400, immutable"}
        return Response(picture, media_type="image/jpeg", headers=headers)

    async def job_source(self, job_id: str, request: Request) -> FileResponse:
        """The video or picture that the job was given, as it was sent."""
        job = await self._service.get_job(job_id, caller_of(request).owner)
        return _source_response(request, self._files.avatar_source_path(job.avatar_key))

    async def avatar_source(self, avatar_id: str, request: Request) -> FileResponse:
        """The video or picture that the avatar was made of, as it was sent."""
        avatar = await self._service.get_avatar(avatar_id, caller_of(request).owner)
        return _source_response(request, self._files.avatar_source_path(avatar.key))


def _source_response(request: Request, path: Path) -> FileResponse:
    ignore_unknown_ranges(request)
    if not path.is_file():
        raise NotFoundError("The presenter's file was removed.")
    return FileResponse(path, media_type=_media_type(path), headers=_INERT)


def _media_type(path: Path) -> str:
    """What a browser may take the file for, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(16)
    for magic, offset, media_type in _SIGNATURES:
        if head[offset : offset + len(magic)] == magic:
            return media_type
    return "application/octet-stream"
