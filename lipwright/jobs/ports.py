"""The two interfaces of the Director: `JobService`, which the API calls, and `Stages`, which the Director calls."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from lipwright.jobs.admission import Admission, AdmitRequest
from lipwright.jobs.messages import (
    AvatarRef,
    BlockRequest,
    ClipPart,
    Composite,
    CropRequest,
    OutputInfo,
    PeopleScan,
    PreparedSpeech,
    ProbeResult,
    RenderedSegment,
    SegmentRequest,
    SegmentWatermark,
    ShownBlock,
    SourceVideo,
)
from lipwright.jobs.model.browser_token import TokenGrant
from lipwright.jobs.model.edits import Revision, TurnEdit
from lipwright.jobs.model.record import JobPage, JobQuery, JobRecord
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.model.usage import UsageRow
from lipwright.jobs.requests import (
    AvatarChangeForm,
    AvatarForm,
    BackgroundForm,
    ClipForm,
    RequestContext,
    ServiceStatus,
    UploadContext,
)
from lipwright.jobs.speech_messages import ChosenVoices, PlacedCue, RecordedSpeech, TranslatedCue, VoiceRequest
from lipwright.media.audio_parts import AudioPart
from lipwright.media.matte import ScreenColour
from lipwright.media.playback import AfterEnd
from lipwright.media.probe import VideoInfo
from lipwright.media.subtitles.cues import Cue
from lipwright.storage.backgrounds import BackgroundRecord
from lipwright.storage.cues import SpokenCue
from lipwright.storage.row_codec import AvatarRecord, SegmentRecord
from lipwright.telemetry.log_context import CallContext
from models.engines.protocol import FrameSpan
from models.face.choice import FaceChoice
from models.people.scan import ScanState
from models.track.tracker import TrackState

TRACK_CHUNK_FRAMES: Final = 48
"""Source frames per call of `Stages.track`, `Stages.matte` and `Stages.scan_people`."""


class JobService(Protocol):
    """Jobs and avatars. Methods raise only subclasses of `lipwright.errors.LipwrightError` on purpose.

    `owner` is the id of the caller's API key, which sees only its own jobs and avatars; None, without keys, sees all.
    """

    async def admit(self, request: AdmitRequest) -> Admission:
        """Reserve space in the queue for one body before it is read; CapacityError if there is none."""

    async def grow_reservation(self, request: AdmitRequest, admission_id: str) -> Admission:
        """Give a reservation more bytes and time; CapacityError if there are none."""

    async def extend(self, admission_id: str, num_bytes: int) -> int:
        """Report the bytes of a body that have arrived; returns how many may arrive before the next report."""

    async def release(self, admission_id: str) -> None:
        """Cancel the reservation of a body that failed."""

    async def submit(self, spec: JobSpec, context: RequestContext) -> JobRecord:
        """Check the inputs and accept the job durably; sending it again returns the same job."""

    async def get_job(self, job_id: str, owner: str | None) -> JobRecord:
        """Return one job; NotFoundError if there is none."""

    async def find_job(self, idempotency_key: str, owner: str | None) -> JobRecord | None:
        """Return the job that this key made, if any."""

    async def release_idempotency_key(self, job_id: str, owner: str | None) -> None:
        """Remove the idempotency key of a finished job, for reuse; StateError while it is unfinished."""

    async def list_jobs(self, query: JobQuery) -> JobPage:
        """Return a page of jobs, the newest first."""

    async def wait_job(self, job_id: str, version: int, timeout_s: float) -> JobRecord:
        """Return the job once it is newer than `version` or final, or after `timeout_s`."""

    async def cancel_job(self, job_id: str, owner: str | None) -> JobRecord:
        """Cancel an unfinished job; a finished one is returned unchanged."""

    async def retry_job(self, job_id: str, new_id: str, owner: str | None) -> JobRecord:
        """Submit a failed job again as the job `new_id`, with the same inputs; StateError if it has not failed."""

    async def revise_job(self, job_id: str, new_id: str, revision: Revision, owner: str | None) -> JobRecord:
        """Make the job `new_id` of a finished one, with changes; StateError if it has not succeeded."""

    async def edit_turns(self, job_id: str, edit: TurnEdit, owner: str | None) -> JobRecord:
        """Change the turns of a job in review and speak what has changed; StateError if it is not in review."""

    async def approve_job(self, job_id: str, owner: str | None) -> JobRecord:
        """Render a job in review; StateError if it is not."""

    async def delete_job(self, job_id: str, owner: str | None) -> None:
        """Delete a finished job with its files, if it exists; StateError while it is unfinished."""

    async def finished_segments(self, job_id: str, owner: str | None) -> list[SegmentRecord]:
        """Return the finished segments in output order. Their files exist until the job ends."""

    async def create_avatar(self, form: AvatarForm, context: UploadContext) -> AvatarRecord:
        """Store an avatar and start its analysis."""

    async def change_avatar(self, avatar_id: str, form: AvatarChangeForm, context: UploadContext) -> AvatarRecord:
        """Change the settings of an avatar; NotFoundError if there is no such avatar or background."""

    async def get_avatar(self, avatar_id: str, owner: str | None) -> AvatarRecord:
        """Return one avatar; NotFoundError if there is none."""

    async def list_avatars(self, owner: str | None) -> list[AvatarRecord]:
        """Return the pinned avatars, the newest first."""

    async def delete_avatar(self, avatar_id: str, owner: str | None) -> None:
        """Delete an avatar; StateError while an unfinished job needs it."""

    async def add_clip(self, avatar_id: str, form: ClipForm, context: UploadContext) -> AvatarRecord:
        """Store a clip of an avatar and start its analysis; return the avatar."""

    async def clips(self, keys: Sequence[str]) -> dict[str, AvatarRecord]:
        """Return the rows of the clips of avatars with these keys, which have their status, by their keys."""

    async def delete_clip(self, avatar_id: str, name: str, owner: str | None) -> None:
        """Delete a clip; jobs and sessions that use it continue. NotFoundError if there is none."""

    async def people(self, avatar_id: str, owner: str | None) -> PeopleScan:
        """Return the people in the source of an avatar; the first call starts the search for them."""

    async def create_background(self, form: BackgroundForm, context: UploadContext) -> BackgroundRecord:
        """Check and store a picture or video behind the person."""

    async def delete_background(self, file_id: str, owner: str | None) -> None:
        """Delete one; NotFoundError if there is none, StateError while an avatar uses it."""

    async def usage(self, first: date | None, last: date | None, owner: str | None) -> list[UsageRow]:
        """Return what API keys have used on the days from `first` to `last`, by default of this month."""

    async def start_token_session(self, session_id: str, grant: TokenGrant) -> int:
        """Count a live session of a browser token; return its maximum seconds, ForbiddenError if there are none."""

    async def end_token_session(self, session_id: str, seconds: int) -> None:
        """Count only the seconds that the session has lasted."""

    async def status(self) -> ServiceStatus:
        """Return the queue, the running jobs, and how long a new job would wait."""

    async def ready(self) -> bool:
        """Return whether every stage answers; StandbyError while another service leads."""


class Stages(Protocol):
    """The stages of a job. Every call has a timeout and is retried when lost; it raises `LipwrightError` subclasses.

    Files are passed by their keys, and written completely or not at all. What decodes a file raises MediaError if it
    cannot be decoded, and MediaLimitError if it exceeds a limit.
    """

    async def probe(self, context: CallContext, video: str | None, audio: str | None) -> ProbeResult:
        """Return what the files hold; StageTimeoutError if opening both takes longer than `limits.open_timeout_s`."""

    async def speak(
        self, context: CallContext, text: str, voice: str | None, owner: str | None, folder: str
    ) -> SpokenCue:
        """Return the cue with a text; its file is in `folder`, which exists. A cue is spoken once.

        Raises:
            OptionError: The text or voice cannot be used.
            VoiceError: The voice failed, cannot be reached, or returned no usable audio.
            StageTimeoutError: The voice timed out, or was busy for too long.
        """

    async def record_speech(self, context: CallContext, cues: Sequence[PlacedCue], out: str) -> RecordedSpeech:
        """Fit cues into their slots and write them to the FLAC file `out`; see `lipwright.speech.cue_recorder`.

        Raises:
            StoredFileError: A cue is missing or damaged; `speak` makes it again.
            MediaLimitError: All together take too long.
        """

    async def transcribe(self, context: CallContext, video: str, owner: str | None) -> list[Cue]:
        """Return what is said in a video, sentence by sentence.

        Raises:
            InputError: Nobody speaks in it.
            VoiceError: The server failed, or cannot be reached.
            StageTimeoutError: The server, or decoding the sound, timed out.
        """

    async def translate(self, context: CallContext, cues: Sequence[Cue], language: str) -> list[TranslatedCue]:
        """Return cues in another language; VoiceError or StageTimeoutError if the server fails."""

    async def choose_voices(
        self, context: CallContext, requests: Sequence[VoiceRequest], language: str | None
    ) -> ChosenVoices:
        """Return the voices of texts; OptionError if a language has too few."""

    async def prepare_speech(
        self, context: CallContext, parts: Sequence[AudioPart[str]], speech: str, claimed_seconds: float
    ) -> PreparedSpeech:
        """Decode a file, or parts of files, to the 16 kHz mono file `speech`, and measure its level.

        A single file gives a track of its own length, which `claimed_seconds`, its length according to the probe,
        limits; parts give one of `claimed_seconds`.
        """

    async def reference(self, context: CallContext, picture: str) -> FaceChoice:
        """Return the face choice for the person whom a picture shows; FaceNotFoundError if there is not exactly one."""

    async def appearance(self, context: CallContext, avatar: AvatarRef) -> FaceChoice:
        """Return the face choice for the person of a tracked avatar, by the appearance in some of its frames.

        Raises:
            FaceNotFoundError: No frame shows the face well enough.
        """

    async def check_fit(self, context: CallContext, clip: ClipPart, own: AvatarRef) -> None:
        """Raise FaceNotFoundError if a tracked clip shows somebody else, OptionError if it does not fit otherwise.

        See `models.clips.fitting`.
        """

    async def compose(self, context: CallContext, parts: Sequence[ClipPart], out: str) -> Composite:
        """Write the source of a composite to `out`; the first part is the avatar's own video. See `compose_clips`.

        Raises:
            OptionError: A clip does not fit.
        """

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
        """Write the landmarks of source frames [start, stop) to `out`; return the state for the next call.

        The first call has none. The landmarks are too large to send.

        Raises:
            FaceNotFoundError: The first frames contain no face that matches `choice`.
        """

    async def scan_people(
        self, context: CallContext, source: SourceVideo, start: int, stop: int, state: ScanState | None, out: str
    ) -> ScanState:
        """Write all faces of source frames [start, stop) to `out`; return the state for the next call."""

    async def predict_source_mouth(
        self, context: CallContext, speech: PreparedSpeech, span: FrameSpan, out: str
    ) -> None:
        """Write the mouth predicted from a source's own sound to `out`; frames of `span` are 20 ms apart."""

    async def find_people(
        self, context: CallContext, folder: str, source: SourceVideo, scans: Sequence[str], mouths: Sequence[str]
    ) -> None:
        """Store in the avatar folder `folder` who is seen and who speaks.

        `scans` and `mouths` are what the two calls above wrote, in order; without sound there are no `mouths`.
        """

    async def find_screen(self, context: CallContext, source: SourceVideo, is_expected: bool) -> ScreenColour | None:
        """Return the colour of the green or blue screen behind the person in a source, if there is one.

        If one `is_expected`, it may share the background with other things.
        """

    async def matte(
        self,
        context: CallContext,
        avatar: AvatarRef,
        screen: ScreenColour | None,
        start: int,
        stop: int,
        before: str | None,
        out: str,
    ) -> None:
        """Write the matte of source frames [start, stop) of a tracked avatar to `out`.

        A `screen` is keyed; without one, people are segmented. `before` is the piece that ends at `start`.

        Raises:
            StoredFileError: The piece `before` is gone or damaged.
        """

    async def join_matte(
        self, context: CallContext, avatar: AvatarRef, part: str, screen: ScreenColour | None, pieces: Sequence[str]
    ) -> None:
        """Store the matte and its report in a part of the avatar's folder, from what `matte` wrote, in order.

        Raises:
            StoredFileError: A piece is gone or damaged.
        """

    async def build_avatar(
        self, context: CallContext, avatar: AvatarRef, tracks: Sequence[str], cuts: Sequence[int]
    ) -> bool:
        """Smooth the whole track that `track` wrote, in order, and write the avatar's folder; return whether it talks.

        For `cuts` see `ClipGraph.cuts`.
        """

    async def is_analysed(self, context: CallContext, engine: str, avatar: AvatarRef) -> bool:
        """Return whether the files that an engine keeps of an avatar are intact."""

    async def analyse(
        self, context: CallContext, engine: str, avatar: AvatarRef, source_speech: PreparedSpeech | None
    ) -> None:
        """Have an engine analyse a tracked avatar, with the speech in its source, and store what it keeps beside it."""

    async def plan(
        self, context: CallContext, speech: PreparedSpeech, request: BlockRequest, state: object
    ) -> ShownBlock:
        """Plan the output frames of one block."""

    async def crop_path(self, context: CallContext, request: CropRequest) -> NDArray[np.float32]:
        """Return the (T, 2) left and upper edges of the crop in the frames of a result, in pixels of the source."""

    async def copyable_keys(self, context: CallContext, source: SourceVideo) -> list[int]:
        """Return the frames before which a copy of a source may start or end; see `copyable_keys`."""

    async def render(
        self, context: CallContext, request: SegmentRequest, out: str, watermark: SegmentWatermark
    ) -> RenderedSegment:
        """Render one encoded segment to `out`: source frames with generated faces, or a copy from the source."""

    async def fit_background(
        self, context: CallContext, background: SourceVideo, shown: VideoInfo, after_end: AfterEnd, out: str
    ) -> str:
        """Write a background as live sessions show it in front of `shown` to `out`; return the file's SHA-256."""

    async def join(
        self,
        context: CallContext,
        segments: Sequence[str],
        speech: Sequence[AudioPart[str]],
        out: str,
        source: SourceVideo,
        output: OutputInfo,
    ) -> None:
        """Join the segments to the labelled video `out`."""

    async def ready(self) -> bool:
        """Return whether each stage answers."""
