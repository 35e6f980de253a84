"""The routes /v1/status, /healthz and /readyz."""

from __future__ import annotations

from lipwright.api.problem import problem_responses
from lipwright.api.routing import Routes, route
from lipwright.api.v1.protocol import Health
from lipwright.errors import ReplicaLostError
from lipwright.jobs.ports import JobService
from lipwright.jobs.requests import ServiceStatus


class StatusRoutes(Routes, prefix="/v1", tags=["service"]):
    """Handler of /v1/status."""

    def __init__(self, service: JobService) -> None:
        self._service = service

    @route("/status", summary="Get the queue status")
    async def get_status(self) -> ServiceStatus:
        """Queue length, running jobs, and the estimated wait for a new job."""
        return await self._service.status()


class HealthRoutes(Routes, tags=["service"]):
    """Handlers of /healthz and /readyz."""

    def __init__(self, service: JobService) -> None:
        self._service = service

    @route("/healthz", summary="Check liveness")
    async def check_alive(self) -> Health:
        """Liveness: this process serves requests."""
        return Health()

    @route("/readyz", summary="Check readiness", responses=problem_responses(503))
    async def check_ready(self) -> Health:
        """Readiness: every stage behind the API responds."""
        if not await self._service.ready():
            raise ReplicaLostError("Not all stages are ready yet. Try again in a few seconds.")
        return Health()
