"""Videos as OpenAI's API shows them (POST and GET /v1/videos, as its reference has them in November 2026)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.forms.speech_form import MAX_TEXT_CHARS, FilePart, SpeechForm
from errors import CancelledJobError
from storage.records import JobRecord, JobStatus, LoopMode

VideoStatus = Literal["queued", "in_progress", "completed", "failed"]
_STATUS: Final[dict[JobStatus, VideoStatus]] = {
    JobStatus.QUEUED: "queued",
    JobStatus.RUNNING: "in_progress",
    JobStatus.SUCCEEDED: "completed",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "failed",
}


class VideoForm(SpeechForm):
    """Body of a new video: OpenAI's fields, and those that a talking face needs beside them."""

    model_config = ConfigDict(extra="forbid")

    text_field = "prompt"
    input_reference: FilePart | None = Field(
        None, description="The face: a video or a still portrait. Not with `avatar_id`."
    )
    avatar_id: str | None = Field(default=None, max_length=64, description="An avatar that was analysed before.")
    model: str | None = Field(None, max_length=64, description="The engine; the default is the service's.")
    prompt: str | None = Field(
        None,
        max_length=MAX_TEXT_CHARS,
        description="What to say, where there is no `audio` and the service has a voice; else taken and not used.",
    )
    seconds: str | None = Field(None, max_length=16, description="Taken and not used: a video is as long as `audio`.")
    size: str | None = Field(None, max_length=16, description="Taken and not used: a video is as large as its source.")
    visible_label: bool = Field(False, description="Whether the video carries a visible mark, as for a job.")
    face: str = Field(default="largest", max_length=128, description="Which face speaks, as for a job.")
    loop: LoopMode = Field(default="pingpong", description="How a source that is shorter than the speech goes on.")

    @property
    def speech_text(self) -> str | None:
        """The text to speak: clients send a prompt in any case, so that a file goes before it."""
        return self.prompt if self.audio is None else None

    @model_validator(mode="after")
    def _one_avatar(self) -> Self:
        if (self.input_reference is None) == (self.avatar_id is None):
            found = "neither" if self.avatar_id is None else "both"
            raise ValueError(f"expected either an input_reference file or an avatar_id, found {found}")
        return self


class VideoError(BaseModel):
    """Why a video failed."""

    code: str = Field(description="Stable name of the problem.")
    message: str


class VideoView(BaseModel):
    """A video. Times are Unix seconds."""

    id: str = Field(description="The id of the job as well: `/v1/jobs/{id}` says more of it.")
    object: Literal["video"] = "video"
    model: str = Field(description="The engine.")
    status: VideoStatus
    progress: int = Field(ge=0, le=100, description="Percent of the whole work.")
    created_at: int
    completed_at: int | None = Field(description="Null until it is completed.")
    expires_at: int | None = Field(description="When the service removes it; null until it is completed.")
    prompt: str | None = Field(None, description="Always null: no prompt is kept.")
    seconds: str = Field(description="Length of the speech, and of the video.")
    size: str | None = Field(description="Width and height in pixels, as `512x512`; null until it is completed.")
    remixed_from_video_id: str | None = Field(None, description="Always null.")
    error: VideoError | None = Field(description="Null unless it failed; a cancelled one is failed, too.")

    @classmethod
    def of(cls, job: JobRecord, size: str | None, keep_s: float) -> VideoView:
        """The view of `job`, whose finished video has this size and is kept for so long."""
        ended = job.finished_at if job.status is JobStatus.SUCCEEDED else None
        return cls(
            id=job.id,
            model=job.options.engine,
            status=_STATUS[job.status],
            progress=100 if ended else int(100 * job.progress),
            created_at=_unix(job.created_at),
            completed_at=_unix(ended) if ended else None,
            expires_at=_unix(ended + timedelta(seconds=keep_s)) if ended else None,
            seconds=f"{job.audio_seconds:g}",
            size=size,
            error=_error(job),
        )


class VideoList(BaseModel):
    """One page of videos."""

    object: Literal["list"] = "list"
    data: list[VideoView]
    first_id: str | None
    last_id: str | None
    has_more: bool = Field(description="Whether more come after the last one.")


class VideoDeleted(BaseModel):
    """A video that is gone."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


def _error(job: JobRecord) -> VideoError | None:
    if _STATUS[job.status] != "failed":
        return None
    if job.error is None:
        return VideoError(code=CancelledJobError.code, message="It was cancelled.")
    return VideoError(code=job.error.code, message=job.error.message)


def _unix(time: datetime) -> int:
    return int(time.timestamp())
