"""The HTTP API as one ASGI app."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from lipwright.api import problem
from lipwright.api.access import ApiKeyMiddleware
from lipwright.api.body_window import AppWindow
from lipwright.api.browser_token import ThumbnailPreflight
from lipwright.api.heygem import heygem_routers
from lipwright.api.live.routes import LiveRoutes
from lipwright.api.openai.protocol import error_answer, error_responses
from lipwright.api.openai.routes import PREFIX, VideoRoutes
from lipwright.api.openapi import API_KEY, EXPOSED_HEADERS, PATH, OpenAPIRoute, described
from lipwright.api.page import PageRoutes, SecurityHeaders
from lipwright.api.sign_in import SignInRoutes
from lipwright.api.tracing import TraceMiddleware
from lipwright.api.v1.routes import v1_routers
from lipwright.api.v1.routes.status import HealthRoutes
from lipwright.api.v1.routes.tokens import TokenRoutes
from lipwright.config import PipelineConfig
from lipwright.errors import LipwrightError
from lipwright.jobs.ports import JobService
from lipwright.net.push.destination import Destinations
from lipwright.rendering.live_chunk import LiveService
from lipwright.speech.service import TextToSpeech
from lipwright.storage.file_store import FileStore
from lipwright.storage.state import open_keys

_SENT_HEADERS = (
    *("Authorization", "X-API-Key", "Idempotency-Key", "Last-Event-ID", "traceparent", "tracestate"),
    *("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "Cache-Control"),
)
"""Request headers that cross-origin scripts may send (CORS)."""
_PREFLIGHT_S = 7200  # Chromium's maximum
_ABOUT = "Lipwright turns a face (video or photo) and an audio clip into a lip-synced talking-head video."


def make_app(
    service: JobService,
    files: FileStore,
    config: PipelineConfig,
    speech: TextToSpeech,
    live: LiveService | None = None,
) -> FastAPI:
    """Return the API over `service`, which reads the uploads that the app writes into `files`."""
    app = FastAPIOffline(title="Lipwright API", description=_ABOUT, version="1", redoc_url=None, openapi_url=PATH)
    app.router.routes[:] = [route for route in app.routes if getattr(route, "path", "") != PATH]
    app.openapi = lambda: described(app)  # type: ignore[method-assign]  # see "Extending OpenAPI" in FastAPI's manual
    app.include_router(OpenAPIRoute(app).router())
    keys = open_keys(config.state, files.root)
    app.add_middleware(ApiKeyMiddleware, keys=keys, settings=config.access, refusal=_refusal)
    problem.install(app, _in_dialect)  # wraps the middleware above, so its unexpected errors become problems too
    _allow_origins(app, config.access.allowed_origins)
    app.add_middleware(ThumbnailPreflight)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(TraceMiddleware)
    app.add_middleware(AppWindow, limits=config.limits)
    app.include_router(PageRoutes(config.labels).router())
    app.include_router(HealthRoutes(service).router())
    responses = problem.problem_responses(401, 403, 503)
    for router in (
        *v1_routers(service, files, config, speech),
        SignInRoutes(keys).router(),
        TokenRoutes(service, keys, speech).router(),
    ):
        app.include_router(router, dependencies=API_KEY, responses=responses)
    app.include_router(
        VideoRoutes(service, files, config).router(), dependencies=API_KEY, responses=error_responses(401, 403, 503)
    )
    if live is not None and config.live.max_sessions != 0:
        destinations = Destinations(config.live.push_destinations, config.network)
        app.include_router(LiveRoutes(config.live, live, speech, destinations, service).router())
    if config.heygem.enabled:
        for router in heygem_routers(service, files, config, keys, speech):
            app.include_router(router, dependencies=API_KEY)
    return app


def _refusal(error: LipwrightError, path: str) -> Response:
    return _in_dialect(problem.answer_to(error, path))


def _in_dialect(answer: problem.ProblemResponse) -> Response:
    """Return an error in the format of its path, which may start with a prefix of the service."""
    return error_answer(answer) if f"{PREFIX}/" in f"{answer.problem.instance}/" else answer


def _allow_origins(app: FastAPI, origins: tuple[str, ...]) -> None:
    """Allow cross-origin requests (CORS) from these origins, without cookies."""
    if not origins:
        return
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST", "PATCH", "DELETE"),
        allow_headers=_SENT_HEADERS,
        expose_headers=EXPOSED_HEADERS,
        allow_private_network=True,
        max_age=_PREFLIGHT_S,
    )
