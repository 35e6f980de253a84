"""What the HTTP API says and hears: views of jobs and avatars, and the forms that make them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from api.forms.speech_form import MAX_TEXT_CHARS, FilePart, SpeechForm
from errors import OptionError
from models.quality.report import QualityReport
from storage.records import (
    AvatarInfo,
    AvatarRecord,
    AvatarStatus,
    CallbackRecord,
    ErrorRecord,
    JobOptions,
    JobRecord,
    JobStage,
    JobStatus,
    LoopMode,
    UploadedFile,
)

_FACE = (
    "Which face of the source speaks: `largest`, an index by size (`0` is the largest), `point:x,y` "
    "or `box:x0,y0,x1,y1` in pixels of the upright frame. By a picture of the person: `face_image`."
)


def _parsed(value: Any) -> Any:
    """What a text field of a form says as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("expected a JSON object of texts") from None


_MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_MetadataText = Annotated[str, StringConstraints(max_length=512)]
_Metadata = Annotated[dict[_MetadataKey, _MetadataText], BeforeValidator(_parsed), Field(max_length=16)]
_METADATA: TypeAdapter[dict[str, str]] = TypeAdapter(_Metadata)


class JobForm(SpeechForm):
    """Multipart body of a new job."""

    model_config = ConfigDict(extra="forbid")

    text: str | None = Field(
        None, max_length=MAX_TEXT_CHARS, description="What to say, in place of `audio`, where `/v1/voices` has a voice."
    )
    video: FilePart | None = Field(None, description="The face: a video or a still portrait. Not with `avatar_id`.")
    avatar_id: str | None = Field(default=None, max_length=64, description="An avatar that was analysed before.")
    engine: str | None = Field(
        None, max_length=64, description="The engine that makes the faces; the default is the service's."
    )
    face: str = Field(default="largest", max_length=128, description=_FACE)
    face_image: FilePart | None = Field(
        None, description="A portrait of the person of `video` who shall speak, in place of `face`."
    )
    loop: LoopMode = Field(default="pingpong", description="How a source that is shorter than the speech goes on.")
    visible_label: bool = Field(False, description="Whether the video carries a visible mark that it is synthetic.")
    priority: int = Field(
        0, ge=-1, le=1, description="Queue priority: 1 (high), 0 (default), -1 (low); at most that of the API key."
    )
    callback_url: str | None = Field(
        None, max_length=4096, description="Where a signed webhook (Standard Webhooks) goes when the job has ended."
    )
    metadata: _Metadata = Field(
        {}, description="Your own words, a JSON object of at most 16 texts; every answer about the job has them."
    )

    @property
    def speech_text(self) -> str | None:
        """The text to speak."""
        return self.text

    @model_validator(mode="after")
    def _one_avatar(self) -> Self:
        if (self.video is None) == (self.avatar_id is None):
            found = "neither" if self.video is None else "both"
            raise ValueError(f"expected either a video file or an avatar_id, found {found}")
        if self.face_image is not None and self.avatar_id is not None:
            raise ValueError("expected a face_image with a video only: the face of an avatar is chosen already")
        return self


class AvatarForm(BaseModel):
    """Multipart body of a new avatar."""

    model_config = ConfigDict(extra="forbid")

    video: FilePart = Field(description="The face: a video or a still portrait.")
    face: str = Field(default="largest", max_length=128, description=_FACE)
    face_image: FilePart | None = Field(
        None, description="A portrait of the person of `video` who shall speak, in place of `face`."
    )
    keep: bool = Field(
        True,
        description="Whether it is listed and stays until it is deleted. Otherwise it goes when it is long unused.",
    )


class JobLinks(BaseModel):
    """Where to go from a job: paths on this server, or whole addresses where a trusted proxy says what they are."""

    self: str = Field(description="The job.")
    events: str = Field(description="Server-sent events: one for every change of the job.")
    video: str | None = Field(description="The finished video; null until the job has succeeded.")
    preview: str | None = Field(description="The video as it grows; null for a job that failed or was cancelled.")
    source: str = Field(description="The video or picture of the face, as it was sent.")


class JobInputs(BaseModel):
    """What the client called its files."""

    audio: str
    presenter: str = Field(description="Name of the video or picture, that of the avatar where one was named.")


class JobView(BaseModel):
    """A job."""

    id: str
    status: JobStatus = Field(description="`succeeded`, `failed` and `cancelled` are final.")
    stage: JobStage = Field(description="What is being done for the job.")
    progress: float = Field(ge=0, le=1, description="Share of the whole work that is done; never falls.")
    num_frames_done: int = Field(description="Frames of the result that are finished.")
    num_frames: int | None = Field(description="Frames of the result; null until the speech was measured.")
    queue_position: int | None = Field(description="How many jobs start before this one; null unless queued.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    inputs: JobInputs = Field(description="What the client called its files.")
    metadata: dict[str, str] = Field(description="The caller's own words.")
    options: JobOptions = Field(description="The options that the job was accepted with.")
    error: ErrorRecord | None = Field(description="Why the job failed or was cancelled; null otherwise.")
    report: QualityReport | None = Field(description="Quality of the result; null until all of it is planned.")
    callback: CallbackRecord | None = Field(description="How its webhook fares; null until the job has ended.")
    links: JobLinks

    @classmethod
    def of(cls, job: JobRecord, base_url: str) -> JobView:
        """The view of `job` for clients that reach this service under `base_url` (`api.base_url`)."""
        here = f"{base_url}/v1/jobs/{job.id}"
        video = f"{here}/video" if job.status is JobStatus.SUCCEEDED else None
        preview = None if job.status in (JobStatus.FAILED, JobStatus.CANCELLED) else f"{here}/preview"
        shared = {name: getattr(job, name) for name in cls.model_fields if name not in ("links", "inputs")}
        return cls(
            **shared,
            inputs=JobInputs(audio=job.audio.label, presenter=job.source_label or _label(job.video)),
            links=JobLinks(self=here, events=f"{here}/events", video=video, preview=preview, source=f"{here}/source"),
        )


def _label(upload: UploadedFile | None) -> str:
    return "" if upload is None else upload.label


class JobList(BaseModel):
    """One page of jobs, the newest first."""

    jobs: list[JobView]
    next_after: int | None = Field(description="The `after` of the next page; null on the last one.")


class AvatarLinks(BaseModel):
    """Where to go from an avatar, as from a job."""

    self: str = Field(description="The avatar.")
    source: str = Field(description="The video or picture of the face, as it was sent.")


class AvatarView(BaseModel):
    """An avatar that is analysed once and can speak many times."""

    id: str
    status: AvatarStatus = Field(description="Jobs may name the avatar while it is still `analysing`.")
    label: str = Field(description="Name of the file that was sent.")
    face: str = Field(description="Which face of the source speaks.")
    info: AvatarInfo | None = Field(description="What the analysis found; null until `ready`.")
    error: ErrorRecord | None = Field(description="Why the analysis failed; null otherwise.")
    is_kept: bool = Field(description="Whether it is listed and stays until it is deleted.")
    created_at: datetime
    last_used_at: datetime
    links: AvatarLinks

    @classmethod
    def of(cls, avatar: AvatarRecord, base_url: str) -> AvatarView:
        """The view of `avatar` for clients that reach this service under `base_url`."""
        here = f"{base_url}/v1/avatars/{avatar.id}"
        shared = {name: getattr(avatar, name) for name in cls.model_fields if name not in ("links", "is_kept")}
        return cls(**shared, is_kept=avatar.pinned, links=AvatarLinks(self=here, source=f"{here}/source"))


class AvatarList(BaseModel):
    """The newest avatars first."""

    avatars: list[AvatarView]


class Health(BaseModel):
    """A sign of life."""

    status: str = Field(default="ok", description="Always `ok`; anything else is a problem.")


def parsed_metadata(text: str) -> dict[str, str]:
    """The words that a query names as a JSON object.

    Raises:
        OptionError: It is none, or holds what no job can bear.
    """
    try:
        return _METADATA.validate_python(text)
    except ValidationError as error:
        raise OptionError("metadata: expected a JSON object of at most 16 texts.") from error


def webhook_view(job: JobRecord) -> dict[str, Any]:
    """What a webhook says of a job: its view, with links as whoever submitted it was given them."""
    return JobView.of(job, job.base_url).model_dump(mode="json")
