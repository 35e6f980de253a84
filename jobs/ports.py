"""The two sides of the Director: what the HTTP API asks of it, and what it asks of the stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from jobs.admission import Admission, AdmitRequest
from jobs.job_request import AvatarRequest, JobRequest
from jobs.messages import (
    AvatarRef,
    BlockRequest,
    OutputInfo,
    PreparedSpeech,
    ProbeResult,
    RenderedSegment,
    SegmentWatermark,
    SourceVideo,
)
from jobs.status import ServiceStatus
from models.engines.protocol import Plan, Planned
from models.face.choice import FaceChoice
from models.track.state import TrackState
from storage.records import AvatarRecord, JobPage, JobQuery, JobRecord, SegmentRecord
from telemetry.log_context import CallContext


class JobService(Protocol):
    """Jobs and avatars. Every method raises `errors.LipwrightError` subclasses and nothing else on purpose.

    `owner` is the id of the caller's API key. It sees its own jobs and avatars; None, where no keys are used, sees all.
    """

    async def admit(self, request: AdmitRequest) -> Admission:
        """Keep a place for one body before it is read, or say why there is none."""
        ...

    async def widen(self, request: AdmitRequest, admission_id: str) -> Admission:
        """Grant a place more bytes and time, or say why there are none."""
        ...

    async def extend(self, admission_id: str, num_bytes: int) -> int:
        """Say how many bytes of a body are here; returns up to how many may come before it is said again."""
        ...

    async def release(self, admission_id: str) -> None:
        """Give back a place whose body came to nothing."""

    async def submit(self, request: JobRequest) -> JobRecord:
        """Check the inputs and accept the job for good; sent again, it gives the same job."""
        ...

    async def get_job(self, job_id: str, owner: str | None) -> JobRecord:
        """One job, or NotFoundError."""
        ...

    async def find_job(self, idempotency_key: str, owner: str | None) -> JobRecord | None:
        """The job that this key made, None where there is none: doors that live by keys ask before each job."""
        ...

    async def release_idempotency_key(self, job_id: str, owner: str | None) -> None:
        """Take a finished job's idempotency key from it, for another job; StateError while it is unfinished."""

    async def list_jobs(self, query: JobQuery) -> JobPage:
        """A page of jobs, the newest first."""
        ...

    async def wait_job(self, job_id: str, version: int, timeout_s: float) -> JobRecord:
        """The job as soon as it is newer than `version` or final, or as it is after `timeout_s`."""
        ...

    async def cancel_job(self, job_id: str, owner: str | None) -> JobRecord:
        """Cancel an unfinished job; a finished one comes back as it is."""
        ...

    async def delete_job(self, job_id: str, owner: str | None) -> None:
        """Forget a finished job with its files; StateError while it is unfinished. Harmless when it is gone."""

    async def finished_segments(self, job_id: str, owner: str | None) -> list[SegmentRecord]:
        """The segments that are done, in output order. Their files lie there until the job ends."""
        ...

    async def create_avatar(self, request: AvatarRequest) -> AvatarRecord:
        """Store an avatar and begin its analysis."""
        ...

    async def get_avatar(self, avatar_id: str, owner: str | None) -> AvatarRecord:
        """One avatar, or NotFoundError."""
        ...

    async def list_avatars(self, owner: str | None) -> list[AvatarRecord]:
        """The avatars that callers asked to keep, the newest first."""
        ...

    async def delete_avatar(self, avatar_id: str, owner: str | None) -> None:
        """Forget an avatar; StateError while an unfinished job needs it."""

    async def status(self) -> ServiceStatus:
        """What waits, what runs, and how long a new job would wait."""
        ...

    async def ready(self) -> bool:
        """Whether every stage answers; StandbyError while another service leads."""
        ...


class Stages(Protocol):
    """The work of a job; each call is bounded, and repeated where it was lost. Raises `LipwrightError` subclasses.

    Files are given by their keys.
    """

    async def probe(self, context: CallContext, video: str | None, audio: str | None) -> ProbeResult:
        """Say what files are, before anything is promised."""
        ...

    async def prepare_speech(
        self, context: CallContext, audio: str, speech: str, claimed_seconds: float
    ) -> PreparedSpeech:
        """Decode `audio` to the file `speech`, and measure it."""
        ...

    async def reference(self, context: CallContext, picture: str) -> FaceChoice:
        """Return the choice of the person whom a picture shows."""
        ...

    async def track(
        self,
        context: CallContext,
        source: SourceVideo,
        choice: FaceChoice,
        start: int,
        stop: int,
        state: TrackState | None,
        out: str,
    ) -> TrackState:
        """Write the landmarks of source frames [start, stop) to `out`, and return what the next call goes on from."""
        ...

    async def build_avatar(self, context: CallContext, avatar: AvatarRef, tracks: Sequence[str]) -> bool:
        """Make an avatar of what `track` wrote, and return whether it talks."""
        ...

    async def is_analysed(self, context: CallContext, engine: str, avatar: AvatarRef) -> bool:
        """Return whether an engine has all that it keeps of an avatar."""
        ...

    async def analyse(
        self, context: CallContext, engine: str, avatar: AvatarRef, own_speech: PreparedSpeech | None
    ) -> None:
        """Have an engine write what it keeps of an avatar."""
        ...

    async def plan(self, context: CallContext, speech: PreparedSpeech, request: BlockRequest, state: Any) -> Planned:
        """Return what the output frames of one block show."""
        ...

    async def render(
        self, context: CallContext, avatar: AvatarRef, engine: str, plan: Plan, out: str, watermark: SegmentWatermark
    ) -> RenderedSegment:
        """Write one encoded segment to `out`."""
        ...

    async def join(
        self,
        context: CallContext,
        segments: Sequence[str],
        audio: str,
        out: str,
        source: SourceVideo,
        output: OutputInfo,
    ) -> None:
        """Write the whole video to `out`, labelled."""
        ...

    async def ready(self) -> bool:
        """Whether each stage answers."""
        ...
