"""The service status behind `GET /v1/status`: queue, expected wait and replicas."""

from __future__ import annotations

from pydantic import Field

from config import JobConfig
from jobs.admission import AdmissionController
from jobs.model.files import Frozen
from storage.file_store import FileStore


class QueueStatus(Frozen):
    """The queue and the running jobs."""

    num_queued: int = Field(description="Accepted jobs that wait to start.")
    num_arriving: int = Field(description="Uploads being received.")
    num_running: int = Field(description="Running jobs.")
    max_queued: int = Field(description="Limit of waiting jobs; beyond it, requests get 429.")
    max_running: int = Field(description="Limit of jobs running at the same time.")
    num_bytes: int = Field(description="Bytes of the uploads of waiting jobs, including those being received.")
    max_bytes: int = Field(description="Limit of these bytes.")


class ReplicaStatus(Frozen):
    """Replicas of one deployment."""

    num_running: int
    num_other: int = Field(description="Starting, stopping or being replaced.")
    is_healthy: bool


class ServiceStatus(Frozen):
    """The state of the service."""

    queue: QueueStatus
    estimated_wait_s: float = Field(description="Seconds until a job accepted now would start.")
    seconds_per_second: float = Field(description="Seconds of finished video per second of wall clock.")
    is_rate_measured: bool = Field(description="False before any job has finished; real time is assumed then.")
    free_disk_bytes: int | None = Field(description="None if files are stored in a bucket.")
    replicas: dict[str, ReplicaStatus] = Field(description="By the name of the deployment.")


def service_status(
    admission: AdmissionController, limits: JobConfig, files: FileStore, replicas: dict[str, ReplicaStatus]
) -> ServiceStatus:
    """Return the status, as far as the Director knows it."""
    state, expected = admission.state(), admission.forecast()
    return ServiceStatus(
        queue=QueueStatus(
            num_queued=state.num_jobs,
            num_arriving=state.num_arriving,
            num_running=state.num_running,
            max_queued=limits.max_queued_jobs,
            max_running=admission.max_running_jobs,
            num_bytes=state.num_bytes,
            max_bytes=limits.max_queued_bytes,
        ),
        estimated_wait_s=round(expected.wait_s, 1),
        seconds_per_second=round(expected.seconds_per_second, 3),
        is_rate_measured=expected.is_measured,
        free_disk_bytes=files.stored.free_bytes(),
        replicas=replicas,
    )
