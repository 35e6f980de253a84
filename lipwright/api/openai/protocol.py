"""Request and response models of OpenAI's video API (reference of November 2026), and errors in its format."""

from __future__ import annotations

from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, Literal, Self

from fastapi import Response
from pydantic import BaseModel, Field, model_validator
from starlette.responses import JSONResponse

from lipwright.api.problem import ProblemResponse
from lipwright.errors import CancelledJobError
from lipwright.jobs.model.base import FilePart, example
from lipwright.jobs.model.record import JobStatus, JobSummary
from lipwright.jobs.model.spec import MAX_TEXT_CHARS, JobSpec, SpeechSpec, one_of


class ErrorDetails(BaseModel):
    """Why a request was refused or failed."""

    message: str = Field(description="What went wrong.")
    type: str = Field(description="`invalid_request_error`, `rate_limit_error` or `server_error`.")
    param: str | None = Field(None, description="Always null: the message names the field.")
    code: str = Field(description="Stable error code, as in /v1/jobs.")


class ErrorBody(BaseModel):
    """An error in OpenAI's format."""

    error: ErrorDetails


def error_responses(*status_codes: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI `responses` for these status codes."""
    return {code: {"description": HTTPStatus(code).phrase, "model": ErrorBody} for code in status_codes}


def error_answer(answer: ProblemResponse) -> Response:
    """Return the same answer in OpenAI's format."""
    problem = answer.problem
    kinds = {429: "rate_limit_error"}
    kind = kinds.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    body = ErrorBody(error=ErrorDetails(message=problem.detail, type=kind, code=problem.code))
    kept = {name: text for name, text in answer.headers.items() if name not in ("content-type", "content-length")}
    return JSONResponse(body.model_dump(), problem.status, kept)


VideoStatus = Literal["queued", "in_progress", "completed", "failed"]
_STATUS: Final[dict[JobStatus, VideoStatus]] = {
    JobStatus.QUEUED: "queued",
    JobStatus.RUNNING: "in_progress",
    JobStatus.REVIEW: "in_progress",
    JobStatus.SUCCEEDED: "completed",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "failed",
}


class VideoForm(SpeechSpec):
    """Create a video: OpenAI's fields plus Lipwright's."""

    model_config = example(
        input_reference_url="https://example.com/face.mp4", audio_url="https://example.com/speech.wav"
    )

    speech_fields = ("audio", "audio_url", "prompt")
    input_reference: FilePart | None = Field(
        None, description="The face: a video or a still portrait. Mutually exclusive with `avatar_id`."
    )
    avatar_id: str | None = Field(default=None, max_length=64, description="ID of an existing avatar.")
    model: str | None = Field(
        None, max_length=64, description="Engine. Unknown models, such as `sora-2`, select the default engine."
    )
    prompt: str | None = Field(
        None,
        max_length=MAX_TEXT_CHARS,
        description="Text to speak if there is no `audio`; ignored otherwise.",
    )
    seconds: str | None = Field(None, max_length=16, description="Ignored: the video is as long as the speech.")

    @property
    def speech_text(self) -> str | None:
        """Text to synthesize. OpenAI clients always send a prompt, so `audio` takes precedence."""
        return self.prompt if self.audio is None else None

    def spec(self, engine: str | None) -> JobSpec:
        """Return the job that makes the video with this engine; None for the default one."""
        shared = {name: getattr(self, name) for name in SpeechSpec.model_fields if name in self.model_fields_set}
        return JobSpec(
            **shared,
            text=self.speech_text,
            video=self.input_reference,
            avatar_id=self.avatar_id,
            engine=engine,
        )

    @model_validator(mode="after")
    def _one_avatar(self) -> Self:
        if (self.input_reference is None) == (self.avatar_id is None):
            raise ValueError(one_of("input_reference", "avatar_id", self.avatar_id is not None))
        return self


class VideoError(BaseModel):
    """Why a video failed."""

    code: str = Field(description="Stable name of the problem.")
    message: str


class VideoView(BaseModel):
    """A video. Times are Unix seconds."""

    id: str = Field(description="Also the job ID: `/v1/jobs/{id}` has the details.")
    object: Literal["video"] = "video"
    model: str = Field(description="The engine in use; the default engine if the requested `model` is unknown.")
    status: VideoStatus
    progress: int = Field(ge=0, le=100, description="Overall progress in percent.")
    created_at: int
    completed_at: int | None = Field(description="Null until it is completed.")
    expires_at: int | None = Field(description="When the service deletes the video; null until it is completed.")
    prompt: str | None = Field(None, description="Always null: prompts are not stored.")
    seconds: str = Field(description="Length of the video in seconds.")
    size: str | None = Field(description="Width and height in pixels, such as `512x512`; null until it is completed.")
    remixed_from_video_id: str | None = Field(None, description="Always null.")
    error: VideoError | None = Field(description="Null unless it failed; cancelled videos count as failed.")

    @classmethod
    def of(cls, job: JobSummary, size: str | None, keep_s: float) -> VideoView:
        """Return the view of `job`, whose video has this size and is kept for `keep_s` seconds."""
        ended = job.finished_at if job.status is JobStatus.SUCCEEDED else None
        return cls(
            id=job.id,
            model=job.engine,
            status=_STATUS[job.status],
            progress=100 if ended else int(100 * job.progress),
            created_at=_unix(job.created_at),
            completed_at=_unix(ended) if ended else None,
            expires_at=_unix(ended + timedelta(seconds=keep_s)) if ended else None,
            seconds=f"{job.result_seconds:g}",
            size=size,
            error=_error(job),
        )


class VideoList(BaseModel):
    """One page of videos."""

    object: Literal["list"] = "list"
    data: list[VideoView]
    first_id: str | None
    last_id: str | None
    has_more: bool = Field(description="Whether there are more pages.")


class VideoDeleted(BaseModel):
    """A deleted video."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


def _error(job: JobSummary) -> VideoError | None:
    if _STATUS[job.status] != "failed":
        return None
    if job.error is None:
        return VideoError(code=CancelledJobError.code, message="The video was cancelled.")
    return VideoError(code=job.error.code, message=job.error.message)


def _unix(time: datetime) -> int:
    return int(time.timestamp())
