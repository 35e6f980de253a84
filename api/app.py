"""The HTTP API as one ASGI app."""

from __future__ import annotations

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline

from api import problem
from api.access import KeyGate
from api.body_window import AppWindow
from api.heygem.routes import EasyRoutes
from api.live.routes import LiveRoutes
from api.openai.videos import VideoRoutes
from api.page import PageRoutes
from api.problem import problem_responses
from api.session import SessionRoutes
from api.v1.avatars import AvatarRoutes
from api.v1.engines import EngineRoutes
from api.v1.jobs import JobRoutes
from api.v1.pictures import PictureRoutes
from api.v1.views import Health
from config import PipelineConfig
from errors import ReplicaLostError
from jobs.ports import JobService
from rendering.moment import LiveService
from storage.local.api_keys import ApiKeys
from storage.local.file_store import FileStore
from storage.records import ServiceStatus

_ABOUT = "Speech and a face (a video or a still portrait) in, a video in which that face speaks that speech out."


def make_app(service: JobService, files: FileStore, config: PipelineConfig, live: LiveService | None = None) -> FastAPI:
    """The API over `service`, which reads the uploads that this app writes into `files`; with `live` sessions too."""

    async def healthz() -> Health:
        """Says that this process serves requests."""
        return Health()

    async def readyz() -> Health:
        """Says that every stage behind the API answers."""
        if not await service.ready():
            raise ReplicaLostError("Not every stage answers yet.")
        return Health()

    app = FastAPIOffline(title="Lipwright", description=_ABOUT, version="1", redoc_url=None)
    keys = ApiKeys(files.root)
    app.add_middleware(KeyGate, keys=keys, allow_without_keys=config.access.allow_without_keys)
    problem.install(app)  # after it, which is around it: a defect of the gate is a problem too
    app.add_middleware(AppWindow)
    app.include_router(PageRoutes().router())
    app.add_api_route("/healthz", healthz, tags=["service"], summary="Alive?")
    app.add_api_route("/readyz", readyz, tags=["service"], summary="Ready?", responses=problem_responses(503))
    # Says in OpenAPI how a key is sent; the gate above is what looks at it.
    key = [Depends(HTTPBearer(auto_error=False, description="An API key; needed as soon as the service has any."))]

    async def status() -> ServiceStatus:
        """What waits, what runs, and how long a job that is accepted now would wait."""
        return await service.status()

    responses = problem_responses(401, 403, 503)
    app.add_api_route("/v1/status", status, tags=["service"], summary="Busy?", responses=responses, dependencies=key)
    for routes in (
        JobRoutes(service, files, config),
        PictureRoutes(service, files),
        AvatarRoutes(service, files, config),
        EngineRoutes(files, config),
        SessionRoutes(keys),
    ):
        app.include_router(routes.router(), dependencies=key, responses=responses)
    app.include_router(VideoRoutes(service, files, config).router(), dependencies=key, responses=responses)
    if live is not None and config.live.has_sessions:
        app.include_router(LiveRoutes(config.live, live).router())
    if config.heygem.enabled:
        app.include_router(EasyRoutes(service, files, config).router(), dependencies=key)
    return app
