"""What the API and the Director exchange besides the specs and records of jobs: requests, and the service's status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lipwright.config import JobConfig
from lipwright.errors import ForbiddenError, KeyReuseError
from lipwright.jobs.admission import AdmissionController
from lipwright.jobs.model.avatar_settings import AvatarFields
from lipwright.jobs.model.base import FilePart, Frozen, RequestModel, UploadedFile, example, new_id, without_defaults
from lipwright.jobs.model.clip import ClipName, ShownKind
from lipwright.jobs.model.face_points import FACE_POINTS
from lipwright.jobs.model.job_settings import FACE
from lipwright.jobs.model.record import JobRecord
from lipwright.jobs.model.spec import FacePointsField, JobSpec
from lipwright.storage.file_store import FileStore


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


_NORMAL_PRIORITY: Final = 0
_TOP_PRIORITY: Final = 1


@dataclass(frozen=True)
class Caller:
    """Who sent a request: the id of the API key, None without keys, and the highest priority of the caller's jobs."""

    owner: str | None = None
    max_priority: int = _TOP_PRIORITY


class RequestContext(Frozen):
    """Who sent a request, and how it is recognised when it is sent again: the answer is the job that it has made."""

    job_id: str = Field(default_factory=new_id)
    admission_id: str | None = None
    owner: str | None = None
    priority: int = _NORMAL_PRIORITY
    idempotency_key: str | None = None
    request_digest: str | None = None
    base_url: str = ""


class UploadContext(Frozen):
    """Who sent a form with uploads other than those of jobs, and its reservation."""

    admission_id: str | None = None
    owner: str | None = None


def upload_bytes(form: BaseModel) -> int:
    """Return the bytes of the files that came with a form."""
    return sum(value.num_bytes for _, value in form if isinstance(value, UploadedFile))


class AvatarForm(AvatarFields):
    """Create an avatar. Send it as multipart form data or as JSON."""

    model_config = example(video_url="https://example.com/face.mp4")

    video: FilePart = Field(description="The face: a video or a still portrait.")
    face: str = Field("largest", max_length=128, description=FACE)
    face_image: FilePart | None = Field(
        None, description="A portrait of the person in `video` to animate, instead of `face`."
    )
    face_points: FacePointsField | None = Field(None, description=FACE_POINTS)
    keep: bool = Field(
        True,
        description="List the avatar and keep it until it is deleted. If false, it is evicted when unused.",
    )


class AvatarChangeForm(AvatarFields):
    """Change the settings of an avatar. Send it as multipart form data or as JSON. Only the sent fields change."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    @model_validator(mode="after")
    def _some_change(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("send a field to change; background=source removes the background")
        return self


class ClipForm(RequestModel):
    """Add a clip to an avatar. Send it as multipart form data or as JSON."""

    model_config = example(video_url="https://example.com/wave.mp4", name="wave", kind="action")

    video: FilePart = Field(description="A video of the same person, 1 to 60 seconds long; its sound is not used.")
    name: ClipName
    kind: ShownKind


class BackgroundForm(RequestModel):
    """Store a background, as multipart form data or as JSON."""

    model_config = example(background_file_url="https://example.com/office.jpg")

    background_file: FilePart = Field(
        description="A picture or a video. It fills the picture and is cropped to it; its sound is not used."
    )


def priority_of(caller: Caller, spec: JobSpec) -> int:
    """Return the priority of a job: by default normal, or the caller's highest where that is lower.

    Raises:
        ForbiddenError: It is above the caller's.
    """
    if "priority" not in spec.model_fields_set:
        return min(_NORMAL_PRIORITY, caller.max_priority)
    if spec.priority > caller.max_priority:
        raise ForbiddenError(
            f"priority: expected at most {caller.max_priority} with this API key, found {spec.priority}."
        )
    return spec.priority


def check_same_request(job: JobRecord, request_digest: str | None) -> None:
    """Refuse a request that carries the idempotency key of `job` but differs from the request that created it.

    One key stands for one request, however often it is sent; the IETF draft of the header
    (draft-ietf-httpapi-idempotency-key-header, section 2.6) answers another request with 422. Jobs of other dialects
    have no digest, so that any request with their key counts as the same.

    Raises:
        KeyReuseError: It differs.
    """
    if None not in (job.request_digest, request_digest) and job.request_digest != request_digest:
        raise KeyReuseError(
            f"This Idempotency-Key was used for job {job.id}, with other files or fields. Use a new key for a new job."
        )
