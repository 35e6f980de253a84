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
from api.live.routes import LiveRoutes
from api.openai.errors import error_answer, error_responses
from api.openai.routes import PREFIX, VideoRoutes
from api.openapi import EXPOSED_HEADERS, PATH, OpenAPIRoute, described
from api.page import PageRoutes
from api.problem import answer_to, problem_responses
from api.session import SessionRoutes
from api.speech.voice import speaker_of
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
"""What scripts of pages elsewhere may send, beside what they always may."""
_PREFLIGHT_S = 7200  # as long as Chromium keeps an answer; others keep it longer
_ABOUT = "Speech and a face (a video or a still portrait) in, a video in which that face speaks that speech out."


def make_app(service: JobService, files: FileStore, config: PipelineConfig, live: LiveService | None = None) -> FastAPI:
    """The API over `service`, which reads the uploads that this app writes into `files`; with `live` sessions too."""
    app = FastAPIOffline(title="Lipwright", description=_ABOUT, version="1", redoc_url=None, openapi_url=PATH)
    app.router.routes[:] = [route for route in app.routes if getattr(route, "path", "") != PATH]
    app.openapi = lambda: described(app)  # type: ignore[method-assign]  # FastAPI's manual, "Extending OpenAPI"
    app.include_router(OpenAPIRoute(app).router())
    keys = open_keys(config.state, files.root)
    app.add_middleware(ApiKeyMiddleware, keys=keys, settings=config.access, refusal=_refusal)
    problem.install(app)  # after it, which is around it: a defect of the gate is a problem too
    _let_pages_in(app, config.access.allowed_origins)
    app.add_middleware(AppWindow)
    app.include_router(PageRoutes(config.labels).router())
    _add_health(app, service)
    # Says in OpenAPI how a key is sent; the gate above is what looks at it.
    key = [
        Depends(HTTPBearer(auto_error=False, description="An API key; needed as soon as the service has any.")),
        Depends(APIKeyHeader(name="X-API-Key", scheme_name="X-API-Key", auto_error=False, description="The same.")),
    ]

    responses = problem_responses(401, 403, 503)
    _add_status(app, service, key, responses)
    for routes in (
        JobRoutes(service, files, config),
        MediaRoutes(service, files, config.labels),
        AvatarRoutes(service, files, config),
        EngineRoutes(files, config),
        VoiceRoutes(config),
        SessionRoutes(keys),
    ):
        app.include_router(routes.router(), dependencies=key, responses=responses)
    app.include_router(
        VideoRoutes(service, files, config).router(), dependencies=key, responses=error_responses(401, 403, 503)
    )
    if live is not None and config.live.has_sessions:
        app.include_router(LiveRoutes(config.live, live, speaker_of(config.tts)).router())
    if config.heygem.enabled:
        app.include_router(HeygemRoutes(service, files, config).router(), dependencies=key)
    if config.gradio.enabled:
        mount_gradio(app, config)
    return app


def _add_health(app: FastAPI, service: JobService) -> None:
    async def healthz() -> Health:
        """Says that this process serves requests."""
        return Health()

    async def readyz() -> Health:
        """Says that every stage behind the API answers."""
        if not await service.ready():
            raise ReplicaLostError("Not every stage answers yet.")
        return Health()

    app.add_api_route("/healthz", healthz, tags=["service"], summary="Alive?", operation_id="check_alive")
    app.add_api_route(
        "/readyz",
        readyz,
        tags=["service"],
        summary="Ready?",
        responses=problem_responses(503),
        operation_id="check_ready",
    )


def _add_status(app: FastAPI, service: JobService, key: list[Any], responses: dict[int | str, dict[str, Any]]) -> None:
    async def status() -> ServiceStatus:
        """What waits, what runs, and how long a job that is accepted now would wait."""
        return await service.status()

    app.add_api_route(
        "/v1/status",
        status,
        tags=["service"],
        summary="Busy?",
        responses=responses,
        dependencies=key,
        operation_id="get_status",
    )


def _refusal(error: LipwrightError, path: str) -> Response:
    """The answer of the gate, in the form that clients of the path know."""
    return error_answer(error, path) if f"{path}/".startswith(f"{PREFIX}/") else answer_to(error, path)


def _let_pages_in(app: FastAPI, origins: tuple[str, ...]) -> None:
    """Let scripts of these origins' pages call (CORS, WHATWG Fetch); never with the cookies of who looks at them."""
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
