"""Request forms and response models of /v1."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    TypeAdapter,
    ValidationError,
)

from lipwright.errors import OptionError
from lipwright.jobs.messages import PeopleScan
from lipwright.jobs.model.avatar_settings import Expression, Head
from lipwright.jobs.model.base import ErrorRecord
from lipwright.jobs.model.clip import AvatarClip
from lipwright.jobs.model.plan import JobOptions
from lipwright.jobs.model.record import CallbackRecord, JobRecord, JobStage, JobStatus, JobSummary
from lipwright.jobs.model.spec import Metadata
from lipwright.jobs.turns import cues_of
from lipwright.media.output.backgrounds import MatteMode
from lipwright.media.playback import AfterEnd, ClipKind
from lipwright.storage.backgrounds import BackgroundRecord
from lipwright.storage.row_codec import AvatarInfo, AvatarRecord, AvatarStatus
from models.people.report import SeenPerson, SpeakerTurn
from models.quality.report import QualityReport


class PersonView(SeenPerson):
    """One person in the source of an avatar."""

    speaking_seconds: float = Field(description="How long the person speaks in the source.")
    thumbnail: str = Field(description="JPEG of the face: a path on this server, or an absolute URL behind a proxy.")


class PeopleView(BaseModel):
    """The people in the source of an avatar, and who speaks when."""

    status: Literal["searching", "ready"] = Field(description="The lists are complete once it is `ready`.")
    progress: float = Field(ge=0, le=1, description="Progress of the search from 0 to 1.")
    people: list[PersonView] = Field(description="The one who is seen largest and longest first.")
    turns: list[SpeakerTurn] = Field(description="Who speaks when; empty if the source has no sound.")
    audio_offset_ms: float | None = Field(
        description="How far the audio lags behind the video (negative: leads); null if unknown."
    )

    @classmethod
    def of(cls, scan: PeopleScan, avatar: AvatarRecord, base_url: str) -> PeopleView:
        """Return the view of a search with links that start with `base_url`."""
        if (report := scan.report) is None:
            return cls(status="searching", progress=scan.progress, people=[], turns=[], audio_offset_ms=None)
        here = f"{base_url}/v1/avatars/{avatar.id}/people"
        people = [
            PersonView(
                **dict(person),
                speaking_seconds=round(report.speaking_seconds(person.number), 3),
                thumbnail=f"{here}/{person.number}/thumbnail",
            )
            for person in report.people
        ]
        return cls(
            status="ready",
            progress=1.0,
            people=people,
            turns=list(report.turns),
            audio_offset_ms=report.audio_offset_ms,
        )


_METADATA: TypeAdapter[dict[str, str]] = TypeAdapter(Metadata)


class JobSummaryLinks(BaseModel):
    """Related resources: paths on this server, or absolute URLs behind a trusted proxy."""

    self: str = Field(description="The job.")
    events: str = Field(description="Server-sent events, one per change of the job.")
    video: str | None = Field(description="The finished video; null until the job succeeds.")
    preview: str | None = Field(
        description="The video while it is rendered; null if the job failed or was cancelled, or is not made as MP4."
    )
    source: str = Field(description="The video or picture of the face, as it was sent.")


class JobLinks(JobSummaryLinks):
    """Related resources: paths on this server, or absolute URLs behind a trusted proxy."""

    subtitles: str | None = Field(description="The texts of the turns as an SRT file; null if no turn has a text.")
    turns: str | None = Field(description="The turns; null for a single speech.")


class JobInputs(BaseModel):
    """File names as given by the client."""

    audio: str
    source: str = Field(description="Name of the video or image, or of the avatar.")
    presenter: str = Field(description="The old name of `source`.", deprecated=True)


class _JobFields(BaseModel):
    """What all views of a job show."""

    id: str
    status: JobStatus = Field(description="`succeeded`, `failed` and `cancelled` are final.")
    stage: JobStage = Field(description="Current stage of the job.")
    progress: float = Field(ge=0, le=1, description="Overall progress from 0 to 1; never decreases.")
    num_frames_done: int = Field(description="Number of finished frames.")
    num_frames: int | None = Field(description="Total frames of the result; null until the speech is measured.")
    num_cues: int | None = Field(description="Number of texts to speak; null if there are none, or until it is known.")
    num_cues_done: int = Field(description="Number of spoken texts.")
    queue_position: int | None = Field(description="Number of jobs ahead in the queue; null unless queued.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    inputs: JobInputs = Field(description="File names as given by the client.")
    metadata: dict[str, str] = Field(description="The key-value pairs sent with the job.")
    revision_of: str | None = Field(description="Id of the job that this one revises; null otherwise.")
    error: ErrorRecord | None = Field(description="Why the job failed or was cancelled; null otherwise.")


class JobSummaryView(_JobFields):
    """What lists show of a job; `links.self` has the rest."""

    links: JobSummaryLinks

    @classmethod
    def of(cls, job: JobSummary, base_url: str) -> JobSummaryView:
        """Return the view of `job` with links that start with `base_url`."""
        return cls(**_shared_fields(cls, job), links=JobSummaryLinks(**_links(job, base_url)))


class JobView(_JobFields):
    """A job."""

    options: JobOptions = Field(description="Options of the job, with defaults filled in.")
    watermark_id: str | None = Field(
        description="Identifier in the invisible watermark of the video, 16 hexadecimal digits; null without one."
    )
    report: QualityReport | None = Field(description="Quality report; null until the whole video is planned.")
    callback: CallbackRecord | None = Field(description="Delivery state of the webhook; null until the job ends.")
    links: JobLinks

    @classmethod
    def of(cls, job: JobRecord, base_url: str) -> JobView:
        """Return the view of `job` with links that start with `base_url`."""
        links = _links(job, base_url)
        subtitles = f"{links['self']}/subtitles.srt" if cues_of(job.options) else None
        turns = f"{links['self']}/turns" if job.plan.turns else None
        return cls(**_shared_fields(cls, job), links=JobLinks(**links, subtitles=subtitles, turns=turns))


def _shared_fields(view: type[_JobFields], job: JobSummary) -> dict[str, Any]:
    """Return the fields that a view and a job have in common, and the names of its files."""
    shared = {name: getattr(job, name) for name in view.model_fields if name not in ("links", "inputs")}
    label = job.source_label
    return {**shared, "inputs": JobInputs(audio=job.audio_label, source=label, presenter=label)}


def _links(job: JobSummary, base_url: str) -> dict[str, Any]:
    here = f"{base_url}/v1/jobs/{job.id}"
    has_preview = job.format == "mp4" and job.status not in (JobStatus.FAILED, JobStatus.CANCELLED)
    return {
        "self": here,
        "events": f"{here}/events",
        "video": f"{here}/video" if job.status is JobStatus.SUCCEEDED else None,
        "preview": f"{here}/preview" if has_preview else None,
        "source": f"{here}/source",
    }


class JobList(BaseModel):
    """One page of jobs."""

    jobs: list[JobSummaryView]
    next_after: int | None = Field(description="Pass as `after` to get the next page; null on the last page.")


class AvatarLinks(BaseModel):
    """Related resources, as for a job."""

    self: str = Field(description="The avatar.")
    source: str = Field(description="The video or picture of the face, as it was sent.")


class ClipView(BaseModel):
    """A clip of an avatar."""

    name: str = Field(description="Name by which actions are called.")
    kind: ClipKind = Field(description="When it is shown.")
    status: AvatarStatus = Field(description="Jobs that begin while it is `analysing` wait for it.")
    label: str = Field(description="Name of the uploaded file.")
    info: AvatarInfo | None = Field(description="Properties found by the analysis; null until `ready`.")
    error: ErrorRecord | None = Field(description="Why the analysis failed; null otherwise.")
    created_at: datetime
    thumbnail: str | None = Field(
        description="JPEG of its first frame: a path on this server, or an absolute URL behind a proxy; null until"
        " `ready`."
    )


class ClipList(BaseModel):
    """The clips of an avatar, the oldest first."""

    clips: list[ClipView]


class AvatarView(BaseModel):
    """An avatar: a face that is analysed once and reused by many jobs."""

    id: str
    status: AvatarStatus = Field(description="Jobs may use the avatar while it is still `analysing`.")
    label: str = Field(description="Name of the uploaded file.")
    face: str = Field(description="Which face of the source is animated.")
    info: AvatarInfo | None = Field(description="Properties found by the analysis; null until `ready`.")
    expressiveness: float = Field(description="Scale of its mouth movement, 0 to 2.")
    motion: float = Field(description="How far it moves if it is a still, 0 to 1.")
    expression: Expression = Field(description="Its expression if it is a still.")
    gaze: str = Field(description="Where it looks if it is a still: `free`, `camera` or a point `x,y`.")
    head: Head = Field(description="How much it turns its head if it is a still.")
    background: str | None = Field(description="Colour behind it, or `blur`; null for what is in its source.")
    background_id: str | None = Field(description="Stored picture or video behind it; null if there is none.")
    background_loop: AfterEnd = Field(description="What follows the end of that video.")
    matte: MatteMode = Field(description="How the person is cut out for the background.")
    error: ErrorRecord | None = Field(description="Why the analysis failed; null otherwise.")
    clips: list[ClipView] = Field(description="Further videos of the same person, the oldest first.")
    is_kept: bool = Field(description="Whether the avatar is listed and kept until it is deleted.")
    created_at: datetime
    last_used_at: datetime
    links: AvatarLinks

    @classmethod
    def of(cls, avatar: AvatarRecord, base_url: str, rows: Mapping[str, AvatarRecord]) -> AvatarView:
        """Return the view of `avatar` with links that start with `base_url`; `rows` are those of its clips, by key."""
        here = f"{base_url}/v1/avatars/{avatar.id}"
        settings = avatar.settings.model_dump()
        own = [name for name in cls.model_fields if name not in ("links", "is_kept", "clips", *settings)]
        shared = {name: getattr(avatar, name) for name in own} | settings
        links = AvatarLinks(self=here, source=f"{here}/source")
        known = {name: clip for name, clip in avatar.clips.items() if clip.key in rows}
        clips = [_clip_view(name, clip, rows[clip.key], here) for name, clip in known.items()]
        return cls(**shared, is_kept=avatar.pinned, clips=clips, links=links)


def _clip_view(name: str, clip: AvatarClip, row: AvatarRecord, avatar_path: str) -> ClipView:
    assert clip.kind is not None
    is_ready = row.status is AvatarStatus.READY
    return ClipView(
        name=name,
        kind=clip.kind,
        created_at=clip.created_at,
        thumbnail=f"{avatar_path}/clips/{name}/thumbnail" if is_ready else None,
        **{name: getattr(row, name) for name in ("status", "label", "info", "error")},
    )


class BackgroundView(BaseModel):
    """A stored picture or video behind the person."""

    id: str = Field(description="`background_id` of jobs, avatars and `WS /v1/live`.")
    file: str = Field(description="File name as given by the client.")
    width: int
    height: int
    is_still: bool
    duration_seconds: float = Field(description="Duration of a video; of a picture, that of one frame.")
    created_at: datetime

    @classmethod
    def of(cls, background: BackgroundRecord) -> Self:
        """Return the view of a background."""
        info = background.info
        return cls(
            id=background.id,
            file=background.file.label,
            width=info["width"],
            height=info["height"],
            is_still=info["is_still"],
            duration_seconds=round(float(info["duration_seconds"]), 3),
            created_at=background.created_at,
        )


class AvatarList(BaseModel):
    """Avatars, newest first."""

    avatars: list[AvatarView]


class Health(BaseModel):
    """Health of the service."""

    status: str = Field(default="ok", description="Always `ok`; failures return a problem document.")


def parsed_metadata(text: str) -> dict[str, str]:
    """Parse the `metadata` query parameter.

    Raises:
        OptionError: It is not a valid JSON object of strings.
    """
    try:
        return _METADATA.validate_python(text)
    except ValidationError as error:
        raise OptionError("metadata: expected a JSON object with at most 16 strings.") from error


def webhook_view(job: JobRecord) -> dict[str, Any]:
    """Return the webhook payload of a job: its view, with the links its submitter received."""
    return JobView.of(job, job.base_url).model_dump(mode="json")
