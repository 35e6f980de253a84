"""The row of a job: what was asked for, what is planned, and the state."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

from pydantic import Field

from lipwright.jobs.model.base import ErrorRecord, Frozen, UploadedFile
from lipwright.jobs.model.plan import JobOptions, JobPlan
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.model.turns import SPEAKING_FIELDS
from lipwright.media.output.formats import FormatName


class JobStatus(StrEnum):
    """The status of a job. The last three are final: a job never leaves them."""

    QUEUED = "queued"
    RUNNING = "running"
    REVIEW = "review"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


class JobStage(StrEnum):
    """The stages of a job, in order. The values are public and stored."""

    QUEUED = "queued"
    SPEAKING = "speaking"  # finds the speakers and speaks texts; skipped if there are none
    PREPARING_AUDIO = "preparing_audio"  # decodes and measures the speech
    ANALYSING = "analysing"  # tracks and analyses the avatar; skipped if it is cached
    RENDERING = "rendering"  # renders segments
    MUXING = "muxing"  # joins the segments and the audio
    DONE = "done"


PROGRESS_AT_START: Final = {
    JobStage.PREPARING_AUDIO: 0.0,
    JobStage.ANALYSING: 0.02,
    JobStage.RENDERING: 0.25,
    JobStage.MUXING: 0.98,
}
"""Progress of a job when a stage starts, once its texts are spoken."""


class CallbackStatus(StrEnum):
    """The status of a webhook."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class CallbackRecord(Frozen):
    """The webhook of one finished job."""

    job_id: str
    status: CallbackStatus = CallbackStatus.PENDING
    attempts: int = 0
    next_at: datetime = Field(description="When the next attempt is due.")
    error: str | None = Field(default=None, description="Why the last attempt failed.")


class JobSummary(Frozen):
    """The state of a job, as lists have it: without its spec and plan, which may be a megabyte."""

    id: str
    version: int = 1
    status: JobStatus = JobStatus.QUEUED
    stage: JobStage = JobStage.QUEUED
    progress: float = Field(default=0.0, ge=0, le=1)
    num_frames: int | None = None
    num_frames_done: int = 0
    num_cues: int | None = Field(None, description="Texts to speak; None if there are none, or it is not known yet.")
    num_cues_done: int = 0
    queue_position: int | None = Field(default=None, description="0 = next to start; None unless queued. Not stored.")
    priority: int = 0
    owner: str | None = None
    idempotency_key: str | None = None
    request_digest: str | None = Field(None, description="Hash of the request, to recognise a repeated one by its key.")
    base_url: str = Field("", description="Prefix of the links in its webhook; empty for relative paths.")
    callback_url: str | None = None
    metadata: dict[str, str] = Field({}, description="The caller's key-value pairs, returned with the job.")
    engine: str
    format: FormatName = "mp4"
    audio_label: str = Field("", description="The client's name of the speech.")
    source_label: str = Field("", description="The client's name of the video or still.")
    upload_bytes: int = Field(0, description="Bytes of the files that were sent.")
    avatar_key: str
    turn_avatar_keys: dict[str, str] = Field({}, description="Avatars of the faces that turns name, by face choice.")
    audio_seconds: float = Field(0.0, description="Duration of the speech, as its file declares it.")
    result_seconds: float = Field(0.0, description="Duration of the result, as the files declare it until decoded.")
    disk_bytes: int = Field(0, description="Estimate of the most disk space that the job needs.")
    stored_bytes: int = Field(0, description="Bytes of its stored files: those that were sent, and all once it ends.")
    watermark_id: str | None = Field(
        None, description="Identifier in its invisible watermark, 16 hexadecimal digits; null without a watermark."
    )
    reviewed_at: datetime | None = Field(None, description="When it was ready for review, or changed there.")
    revision_of: str | None = Field(None, description="Id of the job that it revises.")
    attempts: int = Field(0, description="Starts since the last progress.")
    error: ErrorRecord | None = None
    trace: dict[str, str] = Field({}, description="W3C headers `traceparent` and `tracestate` of what created it.")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def avatar_keys(self) -> frozenset[str]:
        """Keys of all avatars that the job needs."""
        return frozenset((self.avatar_key, *self.turn_avatar_keys.values()))


class JobRecord(JobSummary):
    """One whole row of the job table. `version` increases with every change."""

    report: dict[str, Any] | None = Field(default=None, description="Quality report, stored as it was made.")
    callback: CallbackRecord | None = Field(default=None, description="Its webhook, once it has ended. Not stored.")
    spec: JobSpec = Field(description="What was asked for.")
    plan: JobPlan

    @property
    def uploaded_avatar_keys(self) -> list[str]:
        """Keys of the avatars whose sources were sent, the job's own first; a composite is made of them."""
        own = [clip.key for clip in self.plan.clips.values()] or [self.avatar_key]
        return [*own, *self.turn_avatar_keys.values()]

    @property
    def options(self) -> JobOptions:
        """The options of the plan."""
        return self.plan.options

    @property
    def audio_files(self) -> dict[str, UploadedFile]:
        """All audio, by the name of its form field."""
        return self.plan.audio

    @property
    def produce_id(self) -> str:
        """Identifies the video in its labels; equal for equal inputs and options."""
        # Without defaults, so that a new option does not change the ids of jobs that do not use it.
        set_options = self.options.model_dump(
            mode="json", exclude_defaults=True, exclude={"turns": {"__all__": set(SPEAKING_FIELDS)}}
        )
        options = json.dumps(set_options, sort_keys=True)
        more_audio = {name: file for name, file in self.plan.audio.items() if name != "audio"}
        audio = self.plan.audio.get("audio")  # missing if all texts of a draft were removed
        text = f"{'' if audio is None else audio.sha256}\n{self.avatar_key}\n{options}"
        text += "".join(f"\n{name} {file.sha256}" for name, file in sorted(more_audio.items()))
        text += "" if self.plan.background_file is None else f"\nbackground {self.plan.background_file.sha256}"
        text += f"\nclips {self.plan.seed}" if self.plan.clips else ""  # which decides what is shown of them when
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def with_watermark(self) -> Self:
        """Return this job with an invisible watermark: the first half of `produce_id`."""
        return self.model_copy(update={"watermark_id": self.produce_id[:16]})


class JobQuery(Frozen):
    """Selects the jobs of a list."""

    limit: int
    owner: str | None = Field(None, description="Only jobs of this owner; None for all.")
    status: JobStatus | None = None
    metadata: dict[str, str] = Field({}, description="Only jobs with all of these key-value pairs.")
    watermark_id: str | None = Field(None, description="Only jobs whose invisible watermark carries this identifier.")
    after: int | None = Field(None, description="`next_after` of the previous page.")
    after_id: str | None = Field(None, description="Id of the last job of the previous page, in place of `after`.")
    oldest_first: bool = False


class JobPage(Frozen):
    """One page of a list. Jobs that are added or deleted between two pages do not shift the second."""

    jobs: list[JobSummary]
    next_after: int | None = Field(description="`JobQuery.after` of the next page; None on the last one.")
