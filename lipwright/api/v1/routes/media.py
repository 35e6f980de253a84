"""Routes of media files: results, previews, thumbnails and sources."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from fastapi import Path, Query, Request, Response
from starlette.responses import FileResponse, PlainTextResponse, StreamingResponse

from lipwright.api.access import caller_of
from lipwright.api.file_responses import inert_file_response, unchanged
from lipwright.api.openapi import BINARY, CACHED, RANGED
from lipwright.api.problem import problem_responses
from lipwright.api.result_file import lasting, result_file_response, thumbnail_response
from lipwright.api.routing import Routes, route
from lipwright.api.v1.preview import Previews
from lipwright.api.v1.routes.subtitles import SUBTITLE_TYPES
from lipwright.config import LabelsConfig
from lipwright.errors import NotFoundError
from lipwright.jobs.model.clip import AvatarClip
from lipwright.jobs.model.record import JobStatus
from lipwright.jobs.ports import JobService
from lipwright.jobs.turns import cues_of
from lipwright.media.subtitles.texts import SubtitleFormat, subtitle_file
from lipwright.storage.file_keys import avatar_picture_key, job_file_key, person_picture_key, result_key, source_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.files import FileState
from lipwright.storage.protocols import MAX_INTEGER

_PRIVATE: Final = {"Cache-Control": "private, no-cache"}
_UPLOADED: Final[dict[str, Any]] = {
    "response_class": FileResponse,
    "responses": {**RANGED, **problem_responses(404, 416)},
}

_PICTURE: Final[dict[str, Any]] = {
    "response_class": Response,
    "responses": {**CACHED, 200: {"content": {"image/jpeg": BINARY}}, **problem_responses(404)},
}


class MediaRoutes(Routes, prefix="/v1"):
    """Handlers for videos, previews, thumbnails and sources."""

    def __init__(self, service: JobService, files: FileStore, labels: LabelsConfig) -> None:
        self._service = service
        self._files = files
        self._previews = Previews(service, files, labels)

    @route("/jobs/{job_id}/video", "HEAD", include_in_schema=False)
    @route(
        "/jobs/{job_id}/video",
        summary="Get the video",
        tags=["jobs"],
        response_class=FileResponse,
        responses={**RANGED, **problem_responses(404, 409, 416)},
    )
    async def get_job_video(
        self,
        job_id: str,
        request: Request,
        download: Annotated[bool, Query(description="Send the file as an attachment.")] = False,
    ) -> Response:
        """Return the finished video. Supports range requests."""
        job = await self._service.get_job(job_id, caller_of(request).owner)
        return await result_file_response(job, self._files, request, download)

    @route(
        "/jobs/{job_id}/preview",
        summary="Watch the video while it is rendered",
        tags=["jobs"],
        response_class=StreamingResponse,
        responses={
            **CACHED,
            200: {"description": "A fragmented MP4 that ends when the job ends.", "content": {"video/mp4": BINARY}},
            **problem_responses(404, 409, 429),
        },
    )
    async def preview_job(self, job_id: str, request: Request) -> Response:
        """Stream the video while it is rendered. The response ends when the job ends.

        Until then the audio track is the speech at 16 kHz. Works with Media Source Extensions and `<video src>`.
        """
        job = await self._service.get_job(job_id, caller_of(request).owner)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        result = await self._find(result_key(job.id)) if job.status is JobStatus.SUCCEEDED else None
        if result is not None:
            headers |= {"cache-control": "private, no-cache", "etag": f'"{result.tag}"'}  # it is always the same then
            if (answer := unchanged(request, headers)) is not None:
                return answer
        return StreamingResponse(await self._previews.open(job), media_type="video/mp4", headers=headers)

    @route(
        "/jobs/{job_id}/subtitles.{kind}",
        summary="Get the subtitles",
        tags=["jobs"],
        response_class=PlainTextResponse,
        responses={
            200: {"content": {media_type: {"schema": {"type": "string"}} for media_type in SUBTITLE_TYPES.values()}},
            **problem_responses(404),
        },
    )
    async def get_job_subtitles(
        self,
        job_id: str,
        kind: Annotated[SubtitleFormat, Path(description="SubRip or WebVTT.")],
        request: Request,
    ) -> Response:
        """Return the texts of the job's turns as subtitles; WebVTT names the speakers."""
        job = await self._service.get_job(job_id, caller_of(request).owner)
        cues = cues_of(job.options)
        if not cues:
            raise NotFoundError(f"Job {job.id} has no subtitles: its turns have no texts.")
        text = await asyncio.to_thread(subtitle_file, cues, kind)
        return Response(text, media_type=SUBTITLE_TYPES[kind], headers=_PRIVATE)

    @route(
        "/jobs/{job_id}/thumbnail",
        summary="Get a thumbnail of the video",
        tags=["jobs"],
        response_class=Response,
        responses={**CACHED, 200: {"content": {"image/jpeg": BINARY}}, **problem_responses(404, 409)},
    )
    async def get_job_thumbnail(self, job_id: str, request: Request) -> Response:
        """Return a JPEG of the first frame (320 pixels on the longer side) once the first segment is rendered."""
        job = await self._service.get_job(job_id, caller_of(request).owner)
        return await thumbnail_response(job, self._files.stored, request)

    @route("/jobs/{job_id}/audio", summary="Get the speech", tags=["jobs"], **_UPLOADED)
    async def get_job_audio(self, job_id: str, request: Request) -> Response:
        """Return the speech of the job as uploaded, or as the voice spoke its text. A cancelled job has none."""
        job = await self._service.get_job(job_id, caller_of(request).owner)
        return await self._upload(request, job_file_key(job.id))

    @route("/jobs/{job_id}/source", summary="Get the source", tags=["jobs"], **_UPLOADED)
    async def get_job_source(self, job_id: str, request: Request) -> Response:
        """Return the video or image of the job as uploaded."""
        job = await self._service.get_job(job_id, caller_of(request).owner)
        return await self._upload(request, source_key(job.uploaded_avatar_keys[0]))

    @route("/avatars/{avatar_id}/source", summary="Get the source", tags=["avatars"], **_UPLOADED)
    async def get_avatar_source(self, avatar_id: str, request: Request) -> Response:
        """Return the video or image of the avatar as uploaded."""
        avatar = await self._service.get_avatar(avatar_id, caller_of(request).owner)
        return await self._upload(request, source_key(avatar.key))

    @route("/avatars/{avatar_id}/thumbnail", summary="Get a picture of an avatar", tags=["avatars"], **_PICTURE)
    async def get_avatar_thumbnail(self, avatar_id: str, request: Request) -> Response:
        """Return a JPEG of the first frame of the source (640 pixels on the longer side).

        An avatar that is not analysed yet, or has a background of its own, has none.
        """
        avatar = await self._service.get_avatar(avatar_id, caller_of(request).owner)
        missing = f"Avatar {avatar.id} has no picture: it is not analysed yet, or has a background of its own."
        if avatar.settings.names_background:  # the picture shows that of the source
            raise NotFoundError(missing)
        return await self._picture(request, avatar_picture_key(avatar.key), missing)

    @route(
        "/avatars/{avatar_id}/people/{number}/thumbnail",
        summary="Get a picture of a person",
        tags=["avatars"],
        **_PICTURE,
    )
    async def get_person_thumbnail(
        self, avatar_id: str, number: Annotated[int, Path(ge=0, le=MAX_INTEGER)], request: Request
    ) -> Response:
        """Return a JPEG of the face (160 pixels on the longer side) of a person in the avatar's source."""
        avatar = await self._service.get_avatar(avatar_id, caller_of(request).owner)
        missing = f"Avatar {avatar.id} has no picture of a person {number}; see its list of people."
        return await self._picture(request, person_picture_key(avatar.key, number), missing)

    @route(
        "/avatars/{avatar_id}/clips/{name}/thumbnail", summary="Get a picture of a clip", tags=["avatars"], **_PICTURE
    )
    async def get_clip_thumbnail(self, avatar_id: str, name: str, request: Request) -> Response:
        """Return a JPEG of the first frame of a clip (640 pixels on the longer side) once it is analysed."""
        clip = await self._clip(avatar_id, name, request)
        missing = f"Clip {name[:80]!r} has no picture: it is not analysed yet."
        response = await self._picture(request, avatar_picture_key(clip.key), missing)
        response.headers.update(_PRIVATE)  # another clip can get the same name
        return response

    @route("/avatars/{avatar_id}/clips/{name}/source", summary="Get a clip", tags=["avatars"], **_UPLOADED)
    async def get_clip_source(self, avatar_id: str, name: str, request: Request) -> Response:
        """Return the video of a clip as uploaded."""
        return await self._upload(request, source_key((await self._clip(avatar_id, name, request)).key))

    async def _clip(self, avatar_id: str, name: str, request: Request) -> AvatarClip:
        avatar = await self._service.get_avatar(avatar_id, caller_of(request).owner)
        if name not in avatar.clips:
            raise NotFoundError(f"Avatar {avatar.id} has no clip {name[:80]!r}; see its list of clips.")
        return avatar.clips[name]

    async def _picture(self, request: Request, key: str, missing: str) -> Response:
        if (state := await self._find(key)) is None:
            raise NotFoundError(missing)
        headers = lasting(state)
        if (answer := unchanged(request, headers)) is not None:
            return answer
        picture = await asyncio.to_thread(self._files.stored.read, key, 0, state.num_bytes, state.tag)
        return Response(picture, media_type="image/jpeg", headers=headers)

    async def _find(self, key: str) -> FileState | None:
        return await asyncio.to_thread(self._files.stored.find, key)

    async def _upload(self, request: Request, key: str) -> Response:
        return await inert_file_response(request, self._files.stored, key, "The file was removed.")
