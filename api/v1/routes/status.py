"""The route /v1/status."""

from __future__ import annotations

from api.routing import Routes, route
from jobs.ports import JobService
from jobs.status import ServiceStatus


class StatusRoutes(Routes, prefix="/v1", tags=["service"]):
    """Handler of /v1/status."""

    def __init__(self, service: JobService) -> None:
        self._service = service

    @route("/status", summary="Get the queue status")
    async def get_status(self) -> ServiceStatus:
        """Queue length, running jobs, and the estimated wait for a new job."""
        return await self._service.status()
