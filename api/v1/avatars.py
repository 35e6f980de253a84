"""The routes under /v1/avatars."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from api.access import caller_of
from api.forms.job_forms import FormDesk
from api.problem import problem_responses
from api.v1.views import AvatarForm, AvatarList, AvatarView, form_body
from config import PipelineConfig
from jobs.ports import JobService
from storage.local.file_store import FileStore
from storage.records import AvatarRequest


class AvatarRoutes:
    """Handlers over a `JobService` and the files that it shares."""

    def __init__(self, service: JobService, files: FileStore, config: PipelineConfig) -> None:
        self._service = service
        self._desk = FormDesk(service, files, config)

    def router(self) -> APIRouter:
        """The routes with what OpenAPI says of them."""
        router = APIRouter(prefix="/v1/avatars", tags=["avatars"])
        router.add_api_route(
            "",
            self.create,
            methods=["POST"],
            status_code=202,
            response_model=AvatarView,
            summary="Create an avatar",
            openapi_extra=form_body(AvatarForm),
            responses=problem_responses(413, 422, 429, 504, 507),
        )
        one = "/{avatar_id}"
        router.add_api_route("", self.list_avatars, summary="List avatars")
        router.add_api_route(one, self.get_avatar, summary="Look at an avatar", responses=problem_responses(404))
        router.add_api_route(
            one,
            self.delete,
            methods=["DELETE"],
            status_code=204,
            summary="Delete an avatar",
            responses=problem_responses(404, 409),
        )
        return router

    async def create(self, request: Request) -> Response:
        """Send a presenter once; jobs that name its id need no analysis of their own.

        The same file and face again give the same avatar.
        """
        owner = caller_of(request).owner
        async with (
            self._desk.admit(request, AvatarForm) as place,
            self._desk.receive(request, AvatarForm, place) as form,
        ):
            avatar = await self._service.create_avatar(
                AvatarRequest(
                    admission_id=place.id, video=form.video, face=form.face, face_image=form.face_image, owner=owner
                )
            )
        location = f"{request.scope.get('root_path', '')}/v1/avatars/{avatar.id}"
        return JSONResponse(AvatarView.of(avatar).model_dump(mode="json"), 202, {"Location": location})

    async def list_avatars(self, request: Request) -> AvatarList:
        """The avatars that were created here, the newest first."""
        return AvatarList(
            avatars=[AvatarView.of(avatar) for avatar in await self._service.list_avatars(caller_of(request).owner)]
        )

    async def get_avatar(self, avatar_id: str, request: Request) -> AvatarView:
        """The avatar as it is now."""
        return AvatarView.of(await self._service.get_avatar(avatar_id, caller_of(request).owner))

    async def delete(self, avatar_id: str, request: Request) -> None:
        """Forget the avatar and its source. Refused while an unfinished job needs it."""
        await self._service.delete_avatar(avatar_id, caller_of(request).owner)
