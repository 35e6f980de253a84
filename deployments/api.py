"""The HTTP API as one ASGI app."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from config import PipelineConfig
from deployments import problem
from deployments.api_avatars import AvatarRoutes
from deployments.api_jobs import JobRoutes
from deployments.api_models import Health
from deployments.job_service import JobService
from deployments.problem import problem_responses
from errors import ReplicaLostError
from storage.file_store import FileStore

_ABOUT = "Speech and a face (a video or a still portrait) in, a video in which that face speaks that speech out."


def make_app(service: JobService, files: FileStore, config: PipelineConfig) -> FastAPI:
    """The API over `service`, which reads the uploads that this app writes into `files`."""

    async def healthz() -> Health:
        """Says that this process serves requests."""
        return Health()

    async def readyz() -> Health:
        """Says that every stage behind the API answers."""
        if not await service.ready():
            raise ReplicaLostError("Not every stage answers yet.")
        return Health()

    app = FastAPIOffline(title="Lipwright", description=_ABOUT, version="1", redoc_url=None)
    problem.install(app)
    app.add_api_route("/healthz", healthz, tags=["service"], summary="Alive?")
    app.add_api_route("/readyz", readyz, tags=["service"], summary="Ready?", responses=problem_responses(503))
    app.include_router(JobRoutes(service, files, config).router())
    app.include_router(AvatarRoutes(service, files, config).router())
    return app
