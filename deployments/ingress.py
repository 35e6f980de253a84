"""Ingress: the HTTP API on Ray Serve. Stateless; any number of replicas."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.runtime.director_client import DirectorClient
from deployments.runtime.live_client import LiveClient
from deployments.runtime.node_drain import NodeDrain
from deployments.runtime.replica import GRACE_S, set_up_telemetry
from deployments.runtime.speech_client import SpeechClient
from lipwright.api.app import make_app
from lipwright.config import PipelineConfig
from lipwright.storage.state import open_store


@serve.deployment(graceful_shutdown_timeout_s=GRACE_S)
@serve.ingress()
class Ingress:
    """Serves the API and passes jobs to the Director; each replica builds its own app."""

    def __init__(
        self,
        config: PipelineConfig,
        director: DeploymentHandle[Any],
        live_session: DeploymentHandle[Any],
        speech_synthesis: DeploymentHandle[Any],
    ) -> None:
        set_up_telemetry()
        self._config = config
        drain = NodeDrain()
        self._director = DirectorClient(director, drain)
        self._live = LiveClient(self._director, live_session, config, drain)
        self._speech = SpeechClient(speech_synthesis, config.tts)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return make_app(self._director, open_store(self._config), self._config, self._speech, self._live)
