"""What the service says of jobs, avatars, engines and itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from lipwright_client.errors import Problem, problem_error

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
AvatarStatus = Literal["analysing", "ready", "failed"]
FINAL: Final = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Failure:
    """Why a job or an analysis failed."""

    code: str
    message: str
    retryable: bool = False

    def problem(self, path: str) -> Problem:
        """The problem that it is for whoever asked for what is at `path`."""
        return Problem(self.code, self.code.replace("_", " ").capitalize(), self.message, 0, self.retryable, path)


@dataclass(frozen=True)
class JobInputs:
    """What the caller named its files."""

    audio: str
    presenter: str


@dataclass(frozen=True)
class Job:
    """A job as it was at one moment.

    Attributes:
        id: Its name at the service.
        status: `succeeded`, `failed` and `cancelled` are final.
        stage: What is being done for it.
        progress: Share of the whole work that is done, 0 to 1.
        num_frames_done: Frames of the result that are finished.
        num_frames: Frames of the result; None until the speech was measured.
        queue_position: How many jobs start before this one; None unless queued.
        created_at: When it was accepted. All moments have their zone.
        started_at: When work on it began.
        finished_at: When it ended.
        inputs: What the caller named its files.
        options: Engine, face, loop and the like, as it was accepted.
        metadata: The caller's own words.
        error: Why it failed or was cancelled.
        report: Quality of the result, as the API documents it.
        raw: The whole of what the service said.
    """

    id: str
    status: JobStatus
    stage: str
    progress: float
    num_frames_done: int
    num_frames: int | None
    created_at: datetime
    queue_position: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    inputs: JobInputs = JobInputs("", "")
    options: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    error: Failure | None = None
    report: dict[str, Any] | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in FINAL

    def check(self) -> Job:
        """This job.

        Raises:
            ProblemError: It failed or was cancelled; the class follows the code.
        """
        if self.status not in ("failed", "cancelled"):
            return self
        failure = self.error or Failure(self.status, f"Job {self.id} was {self.status}.")
        raise problem_error(failure.problem(f"/v1/jobs/{self.id}"), self.id)


@dataclass(frozen=True)
class JobList:
    """One page of jobs, the newest first; `next_after` asks for the next one, and is None on the last."""

    jobs: tuple[Job, ...]
    next_after: int | None = None


@dataclass(frozen=True)
class AvatarInfo:
    """What the analysis of an avatar found."""

    width: int
    height: int
    fps: str
    num_frames: int
    duration_seconds: float
    is_still: bool
    talks: bool


@dataclass(frozen=True)
class Avatar:
    """An avatar that is analysed once.

    Attributes:
        id: What jobs name it by, as `avatar_id`.
        status: Jobs may name it while it is still `analysing`.
        label: Name of the file that was sent.
        face: Which face of the source speaks.
        info: What the analysis found; None until `ready`.
        error: Why the analysis failed.
        is_kept: Whether it is listed and stays until it is deleted.
        created_at: When it was sent.
        last_used_at: When a job last named it.
        raw: The whole of what the service said.
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
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def check(self) -> Avatar:
        """This avatar.

        Raises:
            ProblemError: Its analysis failed; the class follows the code.
        """
        if self.status != "failed":
            return self
        failure = self.error or Failure("internal", f"Avatar {self.id} could not be analysed.")
        raise problem_error(failure.problem(f"/v1/avatars/{self.id}"))


@dataclass(frozen=True)
class AvatarList:
    """Avatars, the newest first."""

    avatars: tuple[Avatar, ...]


@dataclass(frozen=True)
class MissingWeights:
    """A file that an engine does not have, and the command that adds it at the service's machine."""

    role: str
    title: str
    is_required: bool
    add_command: str


@dataclass(frozen=True)
class Engine:
    """Something that makes faces speak: the `engine` of a job is its `name`."""

    name: str
    title: str
    is_default: bool
    is_installed: bool
    missing: tuple[MissingWeights, ...] = ()
    licences: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class EngineList:
    """All engines, and the steps that go on top of one (`wav2lip+restoration`)."""

    engines: tuple[Engine, ...]
    steps: tuple[Engine, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Voices:
    """Text-to-speech of the service.

    Attributes:
        is_available: Whether the service can speak `text`.
        default: Voice of jobs that name none.
        max_chars: Maximum length of a text in characters.
        voices: Names of all known voices, the default first.
    """

    is_available: bool
    default: str | None
    max_chars: int
    voices: tuple[str, ...] = ()


@dataclass(frozen=True)
class QueueStatus:
    """What waits and what runs."""

    num_queued: int
    num_arriving: int
    num_running: int
    max_queued: int
    max_running: int


@dataclass(frozen=True)
class ServiceStatus:
    """How busy the service is.

    Attributes:
        queue: What waits and what runs.
        estimated_wait_s: Until a job that is accepted now would start.
        seconds_per_second: Seconds of finished video made in a second of wall clock.
        raw: The whole of what the service said.
    """

    queue: QueueStatus
    estimated_wait_s: float
    seconds_per_second: float
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
