"""The routes under /v1/avatars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fastapi import Request, Response
from starlette.responses import JSONResponse

from lipwright.api.access import caller_of
from lipwright.api.base_url import base_url
from lipwright.api.forms.form_receiver import FormReceiver
from lipwright.api.forms.form_schema import form_body
from lipwright.api.openapi import headers_of
from lipwright.api.problem import problem_responses
from lipwright.api.routing import Routes, route
from lipwright.api.v1.protocol import AvatarList, AvatarView, ClipList, PeopleView
from lipwright.config import PipelineConfig
from lipwright.jobs.ports import JobService
from lipwright.jobs.requests import AvatarChangeForm, AvatarForm, ClipForm, UploadContext
from lipwright.storage.file_store import FileStore
from lipwright.storage.row_codec import AvatarRecord

_POLL_AGAIN_S: Final = 1


class AvatarRoutes(Routes, prefix="/v1/avatars", tags=["avatars"]):
    """Handlers of /v1/avatars."""

    def __init__(self, service: JobService, files: FileStore, config: PipelineConfig) -> None:
        self._service = service
        self._receiver = FormReceiver(service, files, config)

    @route(
        "",
        "POST",
        status_code=202,
        response_model=AvatarView,
        summary="Create an avatar",
        openapi_extra=form_body(AvatarForm),
        responses={202: {"headers": headers_of("Location")}, **problem_responses(404, 413, 422, 429, 504, 507)},
    )
    async def create_avatar(self, request: Request) -> Response:
        """Upload a face once; jobs and live sessions that use its ID skip the analysis.

        Uploading the same file and face again returns the same avatar. With `keep=false` it is not listed and may be
        evicted; an avatar that was kept once stays kept. Jobs and live sessions use the `background`,
        `expressiveness` and `motion` of the avatar unless they set their own.
        """
        owner = caller_of(request).owner
        async with self._receiver.receive(request, AvatarForm) as (form, admission_id):
            context = UploadContext(admission_id=admission_id, owner=owner)
            avatar = await self._service.create_avatar(form, context)
        view = await self._view(avatar, request)
        return JSONResponse(view.model_dump(mode="json"), 202, {"Location": view.links.self})

    @route("", summary="List avatars")
    async def list_avatars(self, request: Request) -> AvatarList:
        """List kept avatars, newest first."""
        avatars = await self._service.list_avatars(caller_of(request).owner)
        return AvatarList(avatars=await self._views(avatars, request))

    @route("/{avatar_id}", summary="Get an avatar", responses=problem_responses(404))
    async def get_avatar(self, avatar_id: str, request: Request) -> AvatarView:
        """Return the current state of the avatar."""
        avatar = await self._service.get_avatar(avatar_id, caller_of(request).owner)
        return await self._view(avatar, request)

    @route(
        "/{avatar_id}",
        "PATCH",
        summary="Change an avatar",
        openapi_extra=form_body(AvatarChangeForm),
        responses=problem_responses(404, 413, 422, 429, 504, 507),
    )
    async def change_avatar(self, avatar_id: str, request: Request) -> AvatarView:
        """Change the background and the movement of later jobs and live sessions.

        Fields that are not sent stay as they are. `background=source` removes the background.
        """
        owner = caller_of(request).owner
        await self._service.get_avatar(avatar_id, owner)  # before the body is read
        async with self._receiver.receive(request, AvatarChangeForm) as (form, admission_id):
            context = UploadContext(admission_id=admission_id, owner=owner)
            avatar = await self._service.change_avatar(avatar_id, form, context)
        return await self._view(avatar, request)

    @route("/{avatar_id}", "DELETE", status_code=204, summary="Delete an avatar", responses=problem_responses(404, 409))
    async def delete_avatar(self, avatar_id: str, request: Request) -> None:
        """Delete the avatar, its source and its clips. Fails while an unfinished job uses it."""
        await self._service.delete_avatar(avatar_id, caller_of(request).owner)

    @route(
        "/{avatar_id}/clips",
        "POST",
        status_code=202,
        response_model=AvatarView,
        summary="Add a clip to an avatar",
        openapi_extra=form_body(ClipForm),
        responses=problem_responses(404, 409, 413, 422, 429, 504, 507),
    )
    async def add_clip(self, avatar_id: str, request: Request) -> Response:
        """Upload a further video of the avatar's person, which is shown in jobs and live sessions of the avatar.

        It gets the size and the frame rate of the avatar. A clip of somebody else becomes `failed`.
        """
        owner = caller_of(request).owner
        await self._service.get_avatar(avatar_id, owner)  # before the body is read
        async with self._receiver.receive(request, ClipForm) as (form, admission_id):
            context = UploadContext(admission_id=admission_id, owner=owner)
            avatar = await self._service.add_clip(avatar_id, form, context)
        return JSONResponse((await self._view(avatar, request)).model_dump(mode="json"), 202)

    @route("/{avatar_id}/clips", summary="List the clips of an avatar", responses=problem_responses(404))
    async def list_clips(self, avatar_id: str, request: Request) -> ClipList:
        """List the clips of the avatar, the oldest first."""
        avatar = await self._service.get_avatar(avatar_id, caller_of(request).owner)
        return ClipList(clips=(await self._view(avatar, request)).clips)

    @route(
        "/{avatar_id}/clips/{name}",
        "DELETE",
        status_code=204,
        summary="Delete a clip",
        responses=problem_responses(404),
    )
    async def delete_clip(self, avatar_id: str, name: str, request: Request) -> None:
        """Delete a clip of the avatar. Jobs and live sessions that use it continue."""
        await self._service.delete_clip(avatar_id, name, caller_of(request).owner)

    @route(
        "/{avatar_id}/people",
        summary="List the people in an avatar's video",
        responses={
            202: {"model": PeopleView, "headers": headers_of("Retry-After")},
            **problem_responses(404, 422, 503),
        },
    )
    async def get_people(self, avatar_id: str, request: Request, response: Response) -> PeopleView:
        """List every person seen in the source of the avatar, and who speaks when.

        The first request starts the search. Until it ends the status is 202: ask again after `Retry-After` seconds. A
        person's number works as `face` of a job or an avatar with the same video: `person:N`.
        """
        owner = caller_of(request).owner
        avatar = await self._service.get_avatar(avatar_id, owner)
        view = PeopleView.of(await self._service.people(avatar_id, owner), avatar, base_url(request))
        if view.status == "searching":
            response.status_code = 202
            response.headers["Retry-After"] = str(_POLL_AGAIN_S)
        return view

    async def _view(self, avatar: AvatarRecord, request: Request) -> AvatarView:
        return (await self._views([avatar], request))[0]

    async def _views(self, avatars: Sequence[AvatarRecord], request: Request) -> list[AvatarView]:
        keys = [avatar.key for avatar in avatars if avatar.clips]
        rows = await self._service.clips(keys) if keys else {}
        return [AvatarView.of(avatar, base_url(request), rows) for avatar in avatars]
