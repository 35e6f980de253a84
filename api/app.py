"""The HTTP API as one ASGI app."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from api import problem
from api.access import ApiKeyMiddleware
from api.body_window import AppWindow
from api.gradio_mount import mount_gradio
from api.heygem.routes import HeygemRoutes
from api.heygem.voice import HeygemVoiceRoutes
from api.live.routes import LiveRoutes
from api.openai.errors import error_answer, error_responses
from api.openai.routes import PREFIX, VideoRoutes
from api.openapi import EXPOSED_HEADERS, PATH, OpenAPIRoute, described
from api.page import PageRoutes
from api.problem import answer_to, problem_responses
from api.sign_in import SignInRoutes
from api.tts.service import tts_service
from api.v1.protocol import Health
from api.v1.routes.avatars import AvatarRoutes
from api.v1.routes.engines import EngineRoutes
from api.v1.routes.jobs import JobRoutes
from api.v1.routes.media import MediaRoutes
from api.v1.routes.voices import VoiceRoutes
from config import PipelineConfig
from errors import LipwrightError, ReplicaLostError
from jobs.ports import JobService
from jobs.status import ServiceStatus
from rendering.live_chunk import LiveService
from storage.file_store import FileStore
from storage.state import open_keys

_SENT_HEADERS = (
    *("Authorization", "X-API-Key", "Idempotency-Key", "Last-Event-ID"),
    *("Range", "If-Range", "If-None-Match", "If-Modified-Since", "Cache-Control"),
)
"""Request headers that cross-origin scripts may send (CORS)."""
_PREFLIGHT_S = 7200  # Chromium's maximum
_ABOUT = "Lipwright turns a face (video or photo) and an audio clip into a lip-synced talking-head video."


def make_app(service: JobService, files: FileStore, config: PipelineConfig, live: LiveService | None = None) -> FastAPI:
    """Return the API over `service`, which reads the uploads that the app writes into `files`."""
    app = FastAPIOffline(title="Lipwright API", description=_ABOUT, version="1", redoc_url=None, openapi_url=PATH)
    app.router.routes[:] = [route for route in app.routes if getattr(route, "path", "") != PATH]
    app.openapi = lambda: described(app)  # type: ignore[method-assign]  # see "Extending OpenAPI" in FastAPI's manual
    app.include_router(OpenAPIRoute(app).router())
    keys = open_keys(config.state, files.root)
    app.add_middleware(ApiKeyMiddleware, keys=keys, settings=config.access, refusal=_refusal)
    problem.install(app)  # wraps the middleware above, so its unexpected errors become problems too
    _allow_origins(app, config.access.allowed_origins)
    app.add_middleware(AppWindow)
    app.include_router(PageRoutes(config.labels).router())
    _add_health(app, service)
    # Documents the key in OpenAPI; ApiKeyMiddleware checks it.
    key = [
        Depends(HTTPBearer(auto_error=False, description="API key. Required once the service has at least one key.")),
        Depends(
            APIKeyHeader(
                name="X-API-Key",
                scheme_name="X-API-Key",
                auto_error=False,
                description="API key, as an alternative to `Authorization`.",
            )
        ),
    ]

    responses = problem_responses(401, 403, 503)
    _add_status(app, service, key, responses)
    for routes in (
        JobRoutes(service, files, config),
        MediaRoutes(service, files, config.labels),
        AvatarRoutes(service, files, config),
        EngineRoutes(files, config),
        VoiceRoutes(config),
        SignInRoutes(keys),
    ):
        app.include_router(routes.router(), dependencies=key, responses=responses)
    app.include_router(
        VideoRoutes(service, files, config).router(), dependencies=key, responses=error_responses(401, 403, 503)
    )
    if live is not None and config.live.has_sessions:
        app.include_router(LiveRoutes(config.live, live, tts_service(config.tts)).router())
    if config.heygem.enabled:
        app.include_router(HeygemRoutes(service, files, config).router(), dependencies=key)
        app.include_router(HeygemVoiceRoutes(tts_service(config.tts)).router(), dependencies=key)
    if config.gradio.enabled:
        mount_gradio(app, config)
    return app


def _add_health(app: FastAPI, service: JobService) -> None:
    async def healthz() -> Health:
        """Liveness: this process serves requests."""
        return Health()

    async def readyz() -> Health:
        """Readiness: every stage behind the API responds."""
        if not await service.ready():
            raise ReplicaLostError("Not all stages are ready yet. Try again in a few seconds.")
        return Health()

    app.add_api_route("/healthz", healthz, tags=["service"], summary="Check liveness", operation_id="check_alive")
    app.add_api_route(
        "/readyz",
        readyz,
        tags=["service"],
        summary="Check readiness",
        responses=problem_responses(503),
        operation_id="check_ready",
    )


def _add_status(app: FastAPI, service: JobService, key: list[Any], responses: dict[int | str, dict[str, Any]]) -> None:
    async def status() -> ServiceStatus:
        """Queue length, running jobs, and the estimated wait for a new job."""
        return await service.status()

    app.add_api_route(
        "/v1/status",
        status,
        tags=["service"],
        summary="Get the queue status",
        responses=responses,
        dependencies=key,
        operation_id="get_status",
    )


def _refusal(error: LipwrightError, path: str) -> Response:
    """Return an access error in the format of the path's dialect."""
    return error_answer(error, path) if f"{path}/".startswith(f"{PREFIX}/") else answer_to(error, path)


def _allow_origins(app: FastAPI, origins: tuple[str, ...]) -> None:
    """Allow cross-origin requests (CORS) from these origins, without cookies."""
    if not origins:
        return
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST", "DELETE"),
        allow_headers=_SENT_HEADERS,
        expose_headers=EXPOSED_HEADERS,
        allow_private_network=True,
        max_age=_PREFLIGHT_S,
    )
