"""What `GET /v1/status` tells: the queue, the expected wait, and how much of each stage runs."""

from __future__ import annotations

import asyncio
import time

from ray import serve
from ray.serve._private.common import DeploymentStatus, ReplicaState

from config import JobConfig
from deployments.admission import AdmissionDesk
from storage.file_store import FileStore
from storage.records import QueueStatus, ReplicaStatus, ServiceStatus

_FRESH_S = 2.0
_ANSWER_S = 5.0


class ReplicaWatch:
    """Asks Serve's controller how many replicas run; not more often than every two seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, ReplicaStatus] = {}
        self._seen_at = -_FRESH_S

    async def read(self) -> dict[str, ReplicaStatus]:
        """Replicas of each deployment of this application; the last known ones while the controller is silent."""
        if time.monotonic() - self._seen_at >= _FRESH_S:
            self._seen_at = time.monotonic()
            name = serve.get_replica_context().app_name
            try:
                async with asyncio.timeout(_ANSWER_S):
                    self._seen = await asyncio.to_thread(_replicas, name)
            except TimeoutError:
                return self._seen
        return self._seen


def service_status(
    desk: AdmissionDesk, limits: JobConfig, files: FileStore, replicas: dict[str, ReplicaStatus]
) -> ServiceStatus:
    """Put together what is known in the Director."""
    state, expected = desk.state(), desk.forecast()
    return ServiceStatus(
        queue=QueueStatus(
            num_queued=state.num_jobs,
            num_arriving=state.num_arriving,
            num_running=state.num_running,
            max_queued=limits.max_queued_jobs,
            max_running=limits.max_running_jobs,
            num_bytes=state.num_bytes,
            max_bytes=limits.max_queued_bytes,
        ),
        estimated_wait_s=round(expected.wait_s, 1),
        seconds_per_second=round(expected.seconds_per_second, 3),
        is_rate_measured=expected.is_measured,
        free_disk_bytes=files.free_bytes(),
        replicas=replicas,
    )


def _replicas(app_name: str) -> dict[str, ReplicaStatus]:
    application = serve.status().applications.get(app_name)
    if application is None:
        return {}
    found: dict[str, ReplicaStatus] = {}
    for name, deployment in application.deployments.items():
        num_running = deployment.replica_states.get(ReplicaState.RUNNING, 0)
        found[name] = ReplicaStatus(
            num_running=num_running,
            num_other=sum(deployment.replica_states.values()) - num_running,
            is_healthy=deployment.status is not DeploymentStatus.UNHEALTHY,
        )
    return found
