"""What is remembered of jobs and avatars, and what is asked of the Director. All frozen, all picklable."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from errors import LipwrightError

LoopMode = Literal["pingpong", "loop", "hold"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JobStatus(StrEnum):
    """Where a job stands. The last three are final: a job never leaves them."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing about the job changes any more."""
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


class JobStage(StrEnum):
    """What is being done for a job, in this order."""

    QUEUED = "queued"
    LISTENING = "listening"  # the speech is decoded and measured
    ANALYSING = "analysing"  # the avatar's face is tracked; skipped for a known avatar
    RENDERING = "rendering"  # segments are made
    JOINING = "joining"  # segments and sound become one file
    DONE = "done"


class AvatarStatus(StrEnum):
    """Whether an avatar can speak yet."""

    ANALYSING = "analysing"
    READY = "ready"
    FAILED = "failed"


class SegmentStatus(StrEnum):
    """Whether a segment's file is there."""

    PENDING = "pending"
    DONE = "done"


class ErrorRecord(_Frozen):
    """Why a job or an analysis failed, in the words of `errors`."""

    code: str
    message: str
    retryable: bool

    @classmethod
    def of(cls, error: LipwrightError) -> ErrorRecord:
        """The record of an error raised on purpose."""
        return cls(code=error.code, message=str(error), retryable=error.retryable)


class UploadedFile(_Frozen):
    """One file that lies in `FileStore` uploads, complete and hashed."""

    key: str = Field(description="Name in the file store; ours.")
    sha256: str = Field(description="Content hash, hexadecimal.")
    num_bytes: int
    label: str = Field(description="The client's file name, cleaned; shown, never opened.")


class JobOptions(_Frozen):
    """How the caller wants it done."""

    engine: str
    face: str = "largest"
    loop: LoopMode = "pingpong"
    visible_label: bool = Field(False, description="A visible mark in the lower right corner.")
    visible_label_top: bool = Field(False, description="The same in the upper right one: HeyGem's `digital_auth`.")


class AdmitRequest(_Frozen):
    """What is known of a job or an avatar before its body is read."""

    owner: str | None = None
    num_bytes: int | None = Field(None, description="Bytes of the body; None when the client does not say.")
    max_bytes: int = Field(description="Bytes that the body may have at most.")
    idempotency_key: str | None = None


class SubmitRequest(_Frozen):
    """A job as the Ingress hands it over: exactly one of `video` and `avatar_id`.

    `job_id` makes it safe to send again: a job that is there already is the answer.
    """

    job_id: str
    admission_id: str | None = None
    audio: UploadedFile
    video: UploadedFile | None = None
    avatar_id: str | None = None
    face_image: UploadedFile | None = Field(None, description="Picture of the person of the video who speaks.")
    options: JobOptions
    owner: str | None = None
    idempotency_key: str | None = None
    callback_url: str | None = None
    priority: int = 0
    metadata: dict[str, str] = Field({}, description="The caller's own words, kept and given back.")
    request_digest: str | None = Field(None, description="Digest of what was asked, to know it again by its key.")
    base_url: str = Field("", description="What links of its webhook begin with; empty for paths.")


class AvatarRequest(_Frozen):
    """An avatar to analyse."""

    admission_id: str | None = None
    video: UploadedFile
    face: str = "largest"
    face_image: UploadedFile | None = None
    keep: bool = Field(True, description="Whether it stays until it is deleted; otherwise it is part of the cache.")
    owner: str | None = None


class AvatarInfo(_Frozen):
    """What the analysis found out about an avatar's source."""

    width: int
    height: int
    fps: str = Field(description="Exact rate as a fraction, `30000/1001`.")
    num_frames: int
    duration_seconds: float
    is_still: bool
    talks: bool = Field(description="Whether the source shows a moving mouth to take exemplars from.")


class CallbackStatus(StrEnum):
    """Whether a webhook arrived."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class CallbackRecord(_Frozen):
    """The webhook of one finished job."""

    job_id: str
    status: CallbackStatus = CallbackStatus.PENDING
    attempts: int = 0
    next_at: datetime = Field(description="When the next try is due.")
    error: str | None = Field(default=None, description="Why the last try failed.")


class JobRecord(_Frozen):
    """One row of the job table. `version` grows with every change."""

    id: str
    version: int = 1
    status: JobStatus = JobStatus.QUEUED
    stage: JobStage = JobStage.QUEUED
    progress: float = Field(default=0.0, ge=0, le=1)
    num_frames: int | None = None
    num_frames_done: int = 0
    queue_position: int | None = Field(default=None, description="0 = next to start; None unless queued. Not stored.")
    priority: int = 0
    owner: str | None = None
    idempotency_key: str | None = None
    callback_url: str | None = None
    options: JobOptions
    audio: UploadedFile
    video: UploadedFile | None = None
    avatar_key: str
    source_label: str = Field("", description="The client's name of the avatar's file.")
    metadata: dict[str, str] = Field({}, description="The caller's own words, kept and given back.")
    request_digest: str | None = Field(None, description="Digest of what was asked, to know it again by its key.")
    base_url: str = Field("", description="What links of its webhook begin with; empty for paths.")
    audio_seconds: float = Field(0.0, description="Duration of the speech as its file claims it.")
    disk_bytes: int = Field(0, description="Disk space that the job needs at most, as far as can be said before.")
    attempts: int = Field(0, description="Starts since the last progress.")
    error: ErrorRecord | None = None
    report: dict[str, Any] | None = Field(default=None, description="Quality report, kept as it was made.")
    callback: CallbackRecord | None = Field(default=None, description="Its webhook, once it has ended. Not stored.")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def produce_id(self) -> str:
        """What labels call the video: a name of what it is made of and how, equal for equal inputs and options."""
        text = f"{self.audio.sha256}\n{self.avatar_key}\n{self.options.model_dump_json()}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class JobQuery(_Frozen):
    """Which jobs a list shows, the newest first."""

    limit: int
    owner: str | None = Field(None, description="Only its own; None for all.")
    status: JobStatus | None = None
    metadata: dict[str, str] = Field({}, description="Only jobs that bear all of these words.")
    after: int | None = Field(None, description="Where the page before ended: a `next_after`.")


class JobPage(_Frozen):
    """One page of a list. Jobs that come and go between two pages move nothing in the second."""

    jobs: list[JobRecord]
    next_after: int | None = Field(description="`JobQuery.after` of the next page; None on the last one.")


class Admission(_Frozen):
    """A place kept for one body, or the job that its idempotency key names already."""

    id: str = Field(description="Names the kept place; `submit` uses it up, `release` gives it back.")
    max_bytes: int = Field(0, description="Bytes that the body may have.")
    timeout_s: float = Field(0.0, description="Wall clock in which the body has to be here.")
    granted_bytes: int = Field(0, description="Bytes that are kept for it until it asks for more with `extend`.")
    job: JobRecord | None = Field(
        None, description="The job that this key made before; nothing is kept then, and the body is only compared."
    )


class AvatarRecord(_Frozen):
    """One analysed avatar. `pinned` means that a caller asked to keep it; others are a cache."""

    key: str = Field(description="Content hash of the source and of how it is analysed; names the folder.")
    id: str = Field(description="What clients call it.")
    version: int = 1
    status: AvatarStatus = AvatarStatus.ANALYSING
    pinned: bool = False
    awaited: bool = Field(False, description="Whether a caller sent it for itself, so that no job begins its analysis.")
    owner: str | None = None
    label: str = ""
    face: str = "largest"
    source_sha256: str
    info: AvatarInfo | None = None
    error: ErrorRecord | None = None
    created_at: datetime
    last_used_at: datetime


class SegmentRecord(_Frozen):
    """Frames [start, stop) of a job's output, and whether their file is there."""

    job_id: str
    number: int
    start: int
    stop: int
    status: SegmentStatus = SegmentStatus.PENDING
    num_bytes: int = 0
    sha256: str = Field("", description="Of its file as it was rendered; another content is rendered again.")
    attempts: int = 0


def new_id() -> str:
    """A fresh name for a job or an avatar: 32 hexadecimal digits, safe as a file name."""
    return uuid4().hex


def utc_now() -> datetime:
    """The present, with its zone."""
    return datetime.now(UTC)


def avatar_key(source_sha256: str, face: str, analysis_version: str, owner: str | None = None) -> str:
    """The cache key of one analysis: equal source, face choice, version and owner give the same 32 hexadecimal digits.

    Owners share no analysis, so nobody learns from its speed what others have sent.
    """
    text = f"{analysis_version}\n{source_sha256}\n{face}" + ("" if owner is None else f"\n{owner}")
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class QueueStatus(_Frozen):
    """What waits and what runs."""

    num_queued: int = Field(description="Accepted jobs that wait.")
    num_arriving: int = Field(description="Uploads on their way, for which a place is kept.")
    num_running: int = Field(description="Jobs at work.")
    max_queued: int = Field(description="Bound of waiting jobs; one more is refused with 429.")
    max_running: int = Field(description="Jobs that run at the same time.")
    num_bytes: int = Field(description="Uploads of waiting jobs, those on their way included.")
    max_bytes: int = Field(description="Bound of these bytes.")


class ReplicaStatus(_Frozen):
    """How much of one stage runs."""

    num_running: int
    num_other: int = Field(description="Starting, stopping or being replaced.")
    is_healthy: bool


class ServiceStatus(_Frozen):
    """The service as it is now."""

    queue: QueueStatus
    estimated_wait_s: float = Field(description="Until a job that is accepted now would start.")
    seconds_per_second: float = Field(description="Seconds of finished video made in a second of wall clock.")
    is_rate_measured: bool = Field(description="False before any job has finished: real time is assumed then.")
    free_disk_bytes: int | None = Field(description="None where files lie in a bucket, which has no end.")
    replicas: dict[str, ReplicaStatus] = Field(description="By the name of the stage.")
