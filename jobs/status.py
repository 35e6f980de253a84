"""What `GET /v1/status` tells: the queue, the expected wait, and how much of each stage runs."""

from __future__ import annotations

from config import JobConfig
from jobs.admission import AdmissionController
from storage.file_store import FileStore
from storage.records import QueueStatus, ReplicaStatus, ServiceStatus


def service_status(
    admission: AdmissionController, limits: JobConfig, files: FileStore, replicas: dict[str, ReplicaStatus]
) -> ServiceStatus:
    """Put together what is known in the Director."""
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
