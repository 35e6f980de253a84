"""Ingress: the HTTP API on Ray Serve. Stateless; any number of replicas."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from config import PipelineConfig
from deployments.api import make_app
from deployments.director_client import DirectorClient
from deployments.log_context import install_log_context
from storage.file_store import FileStore


@serve.deployment
@serve.ingress()
class Ingress:
    """Takes uploads and requests in and hands jobs to the Director; each replica builds its own app."""

    def __init__(self, config: PipelineConfig, director: DeploymentHandle[Any]) -> None:
        install_log_context()
        self._config = config
        self._director = director

    def __serve_build_asgi_app__(self) -> FastAPI:
        return make_app(DirectorClient(self._director), FileStore(self._config.data_dir), self._config)
