"""The route /v1/status."""

from __future__ import annotations

from fastapi import APIRouter

from jobs.ports import JobService
from jobs.status import ServiceStatus


class StatusRoutes:
    """Handler of /v1/status."""

    def __init__(self, service: JobService) -> None:
        self._service = service

    def router(self) -> APIRouter:
        """Return the router."""
        router = APIRouter(prefix="/v1", tags=["service"])
        router.add_api_route("/status", self.status, summary="Get the queue status", operation_id="get_status")
        return router

    async def status(self) -> ServiceStatus:
        """Queue length, running jobs, and the estimated wait for a new job."""
        return await self._service.status()
