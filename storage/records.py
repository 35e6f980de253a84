"""The stored records of jobs, segments, webhooks and avatars. All are frozen and picklable."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from errors import LipwrightError

LoopMode = Literal["pingpong", "loop", "hold"]


class Frozen(BaseModel):
    """A model that cannot be changed and takes no unknown fields."""

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


class ErrorRecord(Frozen):
    """Why a job or an analysis failed, in the words of `errors`."""

    code: str
    message: str
    retryable: bool

    @classmethod
    def of(cls, error: LipwrightError) -> ErrorRecord:
        """The record of an error raised on purpose."""
        return cls(code=error.code, message=str(error), retryable=error.retryable)


class UploadedFile(Frozen):
    """One file that lies in `FileStore` uploads, complete and hashed."""

    key: str = Field(description="Name in the file store; ours.")
    sha256: str = Field(description="Content hash, hexadecimal.")
    num_bytes: int
    label: str = Field(description="The client's file name, cleaned; shown, never opened.")


class JobOptions(Frozen):
    """How the caller wants it done."""

    engine: str
    face: str = "largest"
    loop: LoopMode = "pingpong"
    visible_label: bool = Field(False, description="A visible mark in the lower right corner.")
    visible_label_top: bool = Field(False, description="The same in the upper right one: HeyGem's `digital_auth`.")


class AvatarInfo(Frozen):
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


class CallbackRecord(Frozen):
    """The webhook of one finished job."""

    job_id: str
    status: CallbackStatus = CallbackStatus.PENDING
    attempts: int = 0
    next_at: datetime = Field(description="When the next try is due.")
    error: str | None = Field(default=None, description="Why the last try failed.")


class JobRecord(Frozen):
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


class JobQuery(Frozen):
    """Which jobs a list shows, the newest first."""

    limit: int
    owner: str | None = Field(None, description="Only its own; None for all.")
    status: JobStatus | None = None
    metadata: dict[str, str] = Field({}, description="Only jobs that bear all of these words.")
    after: int | None = Field(None, description="Where the page before ended: a `next_after`.")


class JobPage(Frozen):
    """One page of a list. Jobs that come and go between two pages move nothing in the second."""

    jobs: list[JobRecord]
    next_after: int | None = Field(description="`JobQuery.after` of the next page; None on the last one.")


class AvatarRecord(Frozen):
    """One analysed avatar. `pinned` means that a caller asked to keep it; others are a cache."""

    key: str = Field(description="Content hash of the source and of how it is analysed; names the folder.")
    id: str = Field(description="What clients call it.")
    version: int = 1
    status: AvatarStatus = AvatarStatus.ANALYSING
    pinned: bool = False
    analyse_on_create: bool = Field(
        False, description="Whether a caller sent it for itself, so that no job begins its analysis."
    )
    owner: str | None = None
    label: str = ""
    face: str = "largest"
    source_sha256: str
    source_info: dict[str, Any] | None = Field(
        None, description="`media.probe.VideoInfo` of the source as JSON; None in rows of older versions."
    )
    analysed_for: dict[str, str] = Field(
        {}, description="Engines that have analysed it, with the time; replicas check the files when they load them."
    )
    info: AvatarInfo | None = None
    error: ErrorRecord | None = None
    created_at: datetime
    last_used_at: datetime


class SegmentRecord(Frozen):
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
