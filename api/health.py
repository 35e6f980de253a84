"""The routes /healthz and /readyz."""

from __future__ import annotations

from fastapi import APIRouter

from api.problem import problem_responses
from api.v1.protocol import Health
from errors import ReplicaLostError
from jobs.ports import JobService


class HealthRoutes:
    """Handlers of /healthz and /readyz."""

    def __init__(self, service: JobService) -> None:
        self._service = service

    def router(self) -> APIRouter:
        """Return the router."""
        router = APIRouter(tags=["service"])
        router.add_api_route("/healthz", self.healthz, summary="Check liveness", operation_id="check_alive")
        router.add_api_route(
            "/readyz",
            self.readyz,
            summary="Check readiness",
            responses=problem_responses(503),
            operation_id="check_ready",
        )
        return router

    async def healthz(self) -> Health:
        """Liveness: this process serves requests."""
        return Health()

    async def readyz(self) -> Health:
        """Readiness: every stage behind the API responds."""
        if not await self._service.ready():
            raise ReplicaLostError("Not all stages are ready yet. Try again in a few seconds.")
        return Health()
