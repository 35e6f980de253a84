"""Jobs, avatars, engines and the state of the service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, Self

from lipwright_client.errors import Problem, problem_error

JobStatus = Literal["queued", "running", "review", "succeeded", "failed", "cancelled"]
AvatarStatus = Literal["analysing", "ready", "failed"]
FINAL: Final = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Record:
    """A part of a response; unknown fields, from newer services, are only in `raw`, which is that part, unparsed."""

    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, kw_only=True)


@dataclass(frozen=True)
class Failure:
    """Why a job or an analysis failed."""

    code: str
    message: str
    retryable: bool = False

    def problem(self, path: str) -> Problem:
        """Return the failure as a problem of the resource at `path`."""
        return Problem(self.code, self.code.replace("_", " ").capitalize(), self.message, 0, self.retryable, path)


@dataclass(frozen=True)
class JobInputs:
    """File names given by the caller."""

    audio: str
    source: str


@dataclass(frozen=True)
class JobSummary(Record):
    """A snapshot of a job, as lists have it.

    Attributes:
        status: `succeeded`, `failed` and `cancelled` are final; a job in `review` waits for `jobs.approve`.
        progress: Overall progress, 0 to 1.
        num_frames: Total frames; None until the speech is measured.
        num_cues: Number of texts to speak; None if there are none, or until it is known.
        queue_position: Number of jobs ahead; None unless queued.
        created_at: When the job was accepted. All times have a time zone.
        inputs: File names given by the caller.
        revision_of: ID of the job that this one revises; None otherwise.
    """

    id: str
    status: JobStatus
    stage: str
    progress: float
    num_frames_done: int
    num_frames: int | None
    created_at: datetime
    num_cues_done: int = 0
    num_cues: int | None = None
    queue_position: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    inputs: JobInputs = JobInputs("", "")
    metadata: Mapping[str, str] = field(default_factory=dict)
    revision_of: str | None = None
    error: Failure | None = None

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.status in FINAL

    @property
    def is_waiting_for_review(self) -> bool:
        """Whether the job goes on only after `jobs.approve`."""
        return self.status == "review"

    @property
    def count(self) -> str:
        """How much of the current stage is done: `text 12 of 60`, `frame 100 of 250`; empty if nothing is counted."""
        if self.stage == "speaking":
            return f"text {self.num_cues_done} of {self.num_cues}" if self.num_cues else ""
        return f"frame {self.num_frames_done} of {self.num_frames}" if self.num_frames_done else ""

    def check(self) -> Self:
        """Return this job if it has not failed.

        Raises:
            ProblemError: The job failed or was cancelled; the subclass depends on the code.
        """
        if self.status not in ("failed", "cancelled"):
            return self
        failure = self.error or Failure(self.status, f"Job {self.id} was {self.status}.")
        raise problem_error(failure.problem(f"/v1/jobs/{self.id}"), self.id)


@dataclass(frozen=True)
class Job(JobSummary):
    """A snapshot of a job with everything that is known of it.

    Attributes:
        options: Engine, face, loop and other options.
        report: Quality report, as documented by the API.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    report: dict[str, Any] | None = None


@dataclass(frozen=True)
class Turn(Record):
    """One turn of a job, as it is planned.

    Attributes:
        number: Number of the turn, from 0 in order of time; edits change the numbers.
        start: When it starts, in seconds of the video.
        end: When it should end; None if it may take as long as it needs.
        text: What is said; None if the speech is a file.
        original_text: What is said in the source, if it was sent.
        face: Who speaks; None for the face of the job.
        voice: Voice for the text; None for the default one.
        expression: Expression of a still picture; None for that of the job.
        natural_seconds: Length of the text as the voice speaks it.
        speed: How much faster it is played, to end in time; None: not faster.
        cut_seconds: What does not fit and is cut; None: nothing.
    """

    number: int
    start: float
    end: float | None = None
    text: str | None = None
    original_text: str | None = None
    speaker: str | None = None
    face: str | None = None
    voice: str | None = None
    gain_db: float = 0.0
    expression: str | None = None
    natural_seconds: float | None = None
    speed: float | None = None
    cut_seconds: float | None = None


@dataclass(frozen=True)
class Turns(Record):
    """The turns of a job.

    Attributes:
        version: Version of the job; an edit with this `version` fails if the job has changed in the meantime.
        status: Turns can be changed while it is `review`.
        turns: In order of time.
    """

    version: int
    status: JobStatus
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class JobList:
    """One page of jobs, newest first; `next_after` selects the next page and is None on the last."""

    jobs: tuple[JobSummary, ...]
    next_after: int | None = None


@dataclass(frozen=True)
class AvatarInfo:
    """Properties found by the analysis of an avatar."""

    width: int
    height: int
    fps: str
    num_frames: int
    duration_seconds: float
    is_still: bool
    talks: bool


@dataclass(frozen=True)
class Clip:
    """A clip of an avatar.

    Attributes:
        name: Name by which actions are called.
        kind: When it is shown: `idle`, `talk` or `action`.
        status: `analysing`, `ready` or `failed`.
        label: Name of the uploaded file.
        info: Properties found by the analysis; None until `ready`.
        thumbnail: Path or URL of a JPEG of its first frame; None until `ready`.
    """

    name: str
    kind: Literal["idle", "talk", "action"]
    status: AvatarStatus
    label: str
    created_at: datetime
    info: AvatarInfo | None = None
    error: Failure | None = None
    thumbnail: str | None = None


@dataclass(frozen=True)
class ClipList:
    """The clips of an avatar, the oldest first."""

    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class Avatar(Record):
    """An avatar.

    Attributes:
        id: ID, to be used as `avatar_id`.
        status: Jobs may use the avatar while it is `analysing`.
        label: Name of the uploaded file.
        face: Which face of the source is animated.
        info: Properties found by the analysis; None until `ready`.
        is_kept: Whether the avatar is listed and kept until it is deleted.
        expressiveness: Default scale of the mouth movement in its jobs and live sessions, 0 to 2.
        motion: How far it moves in them if it is a still, 0 to 1.
        expression: Its expression in them if it is a still.
        gaze: Where it looks in them if it is a still: `free`, `camera` or a point `x,y`.
        head: How much it turns its head in them if it is a still: `lively`, `calm` or `still`.
        background: Default background of its jobs and live sessions: a colour or `blur`; None if there is none.
        background_id: ID of a stored picture or video that is the default background instead.
        background_loop: What follows the end of that video.
        matte: How the person is cut out for the background.
        clips: Further videos of the same person, the oldest first.
    """

    id: str
    status: AvatarStatus
    label: str
    face: str
    created_at: datetime
    last_used_at: datetime
    info: AvatarInfo | None = None
    error: Failure | None = None
    is_kept: bool = True
    expressiveness: float = 1.0
    motion: float = 1.0
    expression: str = "neutral"
    gaze: str = "free"
    head: str = "lively"
    background: str | None = None
    background_id: str | None = None
    background_loop: str = "loop"
    matte: str = "auto"
    clips: tuple[Clip, ...] = ()

    def check(self) -> Avatar:
        """Return this avatar if its analysis has not failed.

        Raises:
            ProblemError: The analysis failed; the subclass depends on the code.
        """
        if self.status != "failed":
            return self
        failure = self.error or Failure("internal", f"Avatar {self.id} could not be analysed.")
        raise problem_error(failure.problem(f"/v1/avatars/{self.id}"))


@dataclass(frozen=True)
class AvatarList:
    """Avatars, newest first."""

    avatars: tuple[Avatar, ...]


@dataclass(frozen=True)
class TimeRange:
    """A half-open time range of a video, in seconds."""

    start: float
    end: float


@dataclass(frozen=True)
class Person:
    """A person seen in the video of an avatar.

    Attributes:
        number: N of the face choice `person:N`; 0 is seen largest and longest.
        seen: When the face is seen.
        face_pixels: Median size of the face in pixels.
        frontal_share: Share of these frames in which the head is turned by at most 30 degrees.
        speaking_seconds: How long the person speaks.
        thumbnail: Path or URL of a JPEG of the face.
    """

    number: int
    seen: tuple[TimeRange, ...]
    face_pixels: float
    frontal_share: float
    speaking_seconds: float
    thumbnail: str


@dataclass(frozen=True)
class SpeakerTurn:
    """A stretch of speech in the video; `person` is None if nobody speaks whose face is seen."""

    start: float
    end: float
    person: int | None
    confidence: float


@dataclass(frozen=True)
class People(Record):
    """The people in the video of an avatar, and who speaks when.

    Attributes:
        status: Complete once it is `ready`; otherwise `searching`.
        progress: Progress of the search, 0 to 1.
        people: The one who is seen largest and longest first.
        turns: Who speaks when, in order.
        audio_offset_ms: How far the audio lags behind the video; None if unknown.
    """

    status: Literal["searching", "ready"]
    progress: float
    people: tuple[Person, ...] = ()
    turns: tuple[SpeakerTurn, ...] = ()
    audio_offset_ms: float | None = None


@dataclass(frozen=True)
class MissingWeights:
    """A missing weights file and the command that installs it on the service's machine."""

    role: str
    title: str
    is_required: bool
    add_command: str


@dataclass(frozen=True)
class Engine(Record):
    """An engine; its `name` is the `engine` of a job."""

    name: str
    title: str
    is_default: bool
    is_installed: bool
    missing: tuple[MissingWeights, ...] = ()
    licences: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineList:
    """All engines, and the post-processors that can be added."""

    engines: tuple[Engine, ...]
    steps: tuple[Engine, ...] = ()


@dataclass(frozen=True)
class Background(Record):
    """A stored picture or video behind the person.

    Attributes:
        id: Its ID: `background_id` of jobs, avatars and `live`.
        duration_seconds: Duration of a video.
    """

    id: str
    file: str
    width: int
    height: int
    is_still: bool
    duration_seconds: float
    created_at: datetime


@dataclass(frozen=True)
class ClonedVoice(Record):
    """A voice cloned from a recording; its `name` is the `voice` of a job.

    Attributes:
        duration_seconds: Duration of the recording.
        transcript: What the recording says; empty if unknown.
    """

    name: str
    duration_seconds: float
    created_at: datetime
    transcript: str = ""


@dataclass(frozen=True)
class Voices:
    """Text-to-speech of the service.

    Attributes:
        is_available: Whether the service can speak `text`.
        default: Voice of jobs that name none.
        max_chars: Maximum length of a text in characters.
        voices: Names of all known voices, the default first, with cloned ones.
        can_clone: Whether the service can clone voices.
        can_translate: Whether the service can dub videos without subtitles (`translate_to`).
        cloned: The voices that this API key has cloned.
    """

    is_available: bool
    default: str | None
    max_chars: int
    voices: tuple[str, ...] = ()
    can_clone: bool = False
    can_translate: bool = False
    cloned: tuple[ClonedVoice, ...] = ()


@dataclass(frozen=True)
class QueueStatus:
    """State of the job queue."""

    num_queued: int
    num_arriving: int
    num_running: int
    max_queued: int
    max_running: int


@dataclass(frozen=True)
class ServiceStatus(Record):
    """State of the service.

    Attributes:
        estimated_wait_s: Estimated wait of a new job, in seconds.
        seconds_per_second: Rendered video seconds per wall-clock second.
    """

    queue: QueueStatus
    estimated_wait_s: float
    seconds_per_second: float
