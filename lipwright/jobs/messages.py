"""Messages between the Director and the stages. All are picklable; bulk data travels by file or object store.

Files are named by their keys (`lipwright.storage.file_keys`); each stage fetches them itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from lipwright.jobs.model.avatar_settings import StillSettings
from lipwright.jobs.model.job_settings import JobSettings
from lipwright.jobs.model.plan import MUSIC
from lipwright.jobs.model.record import JobRecord
from lipwright.jobs.turns import cues_of
from lipwright.media.labels.watermark import Corner
from lipwright.media.output.backgrounds import TRANSPARENT
from lipwright.media.output.formats import FORMATS, FormatName, OutputFormat, Quality
from lipwright.media.output.framing import Framing, OutputSize, output_info, parse_aspect, parse_size
from lipwright.media.phones import Closures
from lipwright.media.playback import AfterEnd, ClipKind, Playback
from lipwright.media.probe import AudioInfo, VideoInfo
from lipwright.media.result.sound_mix import SoundSettings
from lipwright.media.subtitles.texts import ShownText, shown_texts
from lipwright.storage.file_keys import job_file_key
from models.avatar.behaviour import USUAL_BEHAVIOURS, Behaviour, TimedBehaviour
from models.clips.graph import ClipGraph
from models.engines.protocol import FrameSpan, Plan, PlannedBlock
from models.matting.report import MatteReport
from models.mouth.motion import RunningStats
from models.people.report import PeopleReport
from models.speech.level import SpeechLevel
from models.speech.prosody import Prosody


@dataclass(frozen=True)
class OutputPicture:
    """The video of a result."""

    info: VideoInfo  # its size, rate, colours and pixel aspect
    framing: Framing  # which part of the source it shows
    format_name: FormatName = "mp4"
    has_alpha: bool = False  # whether it is transparent where the person is not
    quality: Quality = "balanced"  # of its encoding

    @classmethod
    def of(cls, settings: JobSettings, source: VideoInfo) -> Self:
        """Return what the options of a job mean for a source."""
        size = OutputSize(
            None if settings.size is None else parse_size(settings.size),
            None if settings.crop is None else parse_aspect(settings.crop),
        )
        framing = size.framing(source)
        info, has_alpha = output_info(source, framing, settings.fps), settings.background == TRANSPARENT
        return cls(info, framing, settings.format, has_alpha, settings.quality)

    @property
    def file_format(self) -> OutputFormat:
        """The format of its files."""
        return FORMATS[self.format_name]

    def is_source(self, source: VideoInfo) -> bool:
        """Return whether frames of the source could be copied into it without decoding them."""
        framing = self.framing
        is_whole = not framing.crops(source) and not framing.is_scaled
        return is_whole and self.format_name == "mp4" and self.info.fps == source.fps


PIN_S: Final = 60.0
"""Seconds for which `pin` protects an avatar that is shown live from eviction."""


_SOURCE_INFO: Final = TypeAdapter(VideoInfo)


class ProbeResult(NamedTuple):
    """What the probe found; None for a file that it was not given."""

    video: VideoInfo | None
    audio: AudioInfo | None


@dataclass(frozen=True)
class SourceVideo:
    """A video or still of a face: its key, and what the probe found."""

    key: str
    info: VideoInfo


class PeopleScan(NamedTuple):
    """The search for the people in a source: the share that is done, 0 to 1, and the result at its end."""

    progress: float
    report: PeopleReport | None


class RenderedSegment(NamedTuple):
    """One rendered segment: size and SHA-256 (hexadecimal) of its file, the latter taken before it was written.

    For `silent_motion`, over all its frames, see `models.engines.patches.FacePatches`.
    """

    num_bytes: int
    sha256: str
    silent_motion: RunningStats = RunningStats()


class FrameText(NamedTuple):
    """A text in the picture of frames [first, stop) of a segment."""

    first: int
    stop: int
    text: str


class SegmentWatermark(NamedTuple):
    """The watermarks of one segment, and the subtitles in its picture.

    The visible one is in `corners` of the first `num_frames` frames, None for all. The invisible one carries the
    hexadecimal `invisible_id`, None for none; the segment begins at `first_frame` of the result.
    """

    corners: tuple[Corner, ...] = ()
    num_frames: int | None = None
    invisible_id: str | None = None
    first_frame: int = 0
    texts: tuple[FrameText, ...] = ()


class OutputInfo(NamedTuple):
    """The video that the segments of a job make up: frames, ids in labels and watermark, sound, text track."""

    num_frames: int
    produce_id: str
    sound: SoundSettings = SoundSettings()
    watermark_id: str | None = None
    texts: tuple[ShownText, ...] = ()
    music: str | None = None
    """Key of the music."""
    picture: OutputPicture | None = None
    """Its video; None: an MP4 file of whole frames."""
    language: str | None = None
    """Of the speech and the texts, ISO 639-3."""
    pieces: str | None = None
    """Key of the file to write with the pieces of the sound; None if there are no revisions."""
    earlier_pieces: str | None = None
    """Key of that of a job that this one revises."""

    @classmethod
    def of(cls, job: JobRecord, num_frames: int, picture: OutputPicture | None = None) -> OutputInfo:
        """Return what the record of a job says about its video."""
        options = job.options
        has_turns = options.turns is not None
        sound = SoundSettings(options.background_gain_db, options.loudness_lufs, has_turns, options.music_gain_db)
        music = job_file_key(job.id, MUSIC) if MUSIC in job.audio_files else None
        texts = shown_texts(cues_of(options)) if options.subtitles == "track" else ()
        return cls(num_frames, job.produce_id, sound, job.watermark_id, tuple(texts), music, picture, options.language)


class PreparedSpeech(NamedTuple):
    """Decoded speech: key of a .npy file ((N,) int16, 16 kHz mono), the audio as uploaded, and its loudness."""

    key: str
    info: AudioInfo
    level: SpeechLevel


class BlockFeatures(NamedTuple):
    """The speech behind the T output frames of a block.

    `features` have a form that only the engine knows.
    """

    features: object
    prosody: Prosody


@dataclass(frozen=True)
class AvatarRef:
    """Where stages find an avatar: the key of its folder, see `models.avatar.avatar.Avatar`, and its video or still."""

    folder: str
    source: SourceVideo


class ClipPart(NamedTuple):
    """A part of a composite, tracked; see `models.clips.graph.Clip`."""

    name: str
    kind: ClipKind | None
    avatar: AvatarRef


def num_frames_of(parts: Sequence[ClipPart]) -> int:
    """Return the frames of all parts together."""
    return sum(part.avatar.source.info.num_frames for part in parts)


class Composite(NamedTuple):
    """The made source of a composite: what it holds, what the probe finds in it, and its SHA-256, hexadecimal."""

    graph: ClipGraph
    info: VideoInfo
    sha256: str


@dataclass(frozen=True)
class MatteRef:
    """Where Studio finds the matte of a source: the key of its video, how that is read, and what is known of it."""

    key: str
    info: VideoInfo
    report: MatteReport


def behaviour_of(settings: StillSettings) -> Behaviour:
    """Return how a still behaves with these settings."""
    return Behaviour(settings.motion, settings.expression, settings.gaze, settings.head)


@dataclass(frozen=True)
class BlockRequest:
    """The output frames to plan, and how the source is played.

    For `expressiveness`, `behaviours` and `closures` see `models.avatar.avatar.Avatar`; the configuration may forbid
    motion.
    """

    avatar: AvatarRef
    engine: str
    span: FrameSpan
    playback: Playback
    expressiveness: float = 1.0
    behaviours: tuple[TimedBehaviour, ...] = USUAL_BEHAVIOURS
    closures: Closures = ()


class ShownBlock(NamedTuple):
    """An engine's plan of T output frames, and (T,) what to read for them, see `Avatar.shown_frames`."""

    planned: PlannedBlock
    shown: NDArray[np.int64]


@dataclass(frozen=True)
class FacePlan:
    """One face in the T frames of a segment.

    `weight` is (T,) float32: 1 shows the generated face, 0 the source's own; None is 1 everywhere.
    """

    avatar: AvatarRef
    engine: str
    plan: Plan
    weight: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class CropRequest:
    """A request for the path of the crop through the T frames of a result."""

    avatars: tuple[AvatarRef, ...]  # the faces
    source: VideoInfo  # which they are all in
    engine: str  # for which they are analysed
    speaker: NDArray[np.int8]  # (T,) which of them the crop follows
    source_index: NDArray[np.int32]  # (T,) source frames
    picture: OutputPicture


@dataclass(frozen=True)
class Background:
    """What is behind the person: a file, or a `colour`: `blur`, `transparent` or `#rrggbb`."""

    matte: MatteRef
    colour: str | None
    file: SourceVideo | None = None
    after_end: AfterEnd = "loop"  # what follows the end of a video


class ResolvedAvatar(NamedTuple):
    """An analysed avatar, how it moves, and what is behind it; None: what is in its source.

    With a `graph`, it is a composite, whose frames are shown in the order of a path; see `models.clips.path`.
    """

    avatar: AvatarRef
    background: Background | None = None
    expressiveness: float = 1.0
    behaviour: Behaviour = Behaviour()
    graph: ClipGraph | None = None


@dataclass(frozen=True)
class SegmentRequest:
    """The T frames of a segment: `source_index` is (T,) what is read of the source, see `Avatar.shown_frames`.

    The frames of a still are drawn with the motion of the first face. If `has_copies`, other segments of the
    job are copies of the source; if `is_copy`, this one is. Without a `picture`, the result is an MP4 file of whole
    frames; `corners` are (T, 2), see `lipwright.media.output.picture`. The segment begins at `first_frame` of the
    result. Without a `background`, the source's own is kept.
    """

    source: SourceVideo
    source_index: NDArray[np.integer]
    faces: tuple[FacePlan, ...]
    has_copies: bool = False
    is_copy: bool = False
    picture: OutputPicture | None = None
    corners: NDArray[np.float32] | None = None
    first_frame: int = 0
    background: Background | None = None


def encode_source_info(info: VideoInfo) -> dict[str, Any]:
    """Return JSON values for `AvatarRecord.source_info`."""
    encoded: dict[str, Any] = _SOURCE_INFO.dump_python(info, mode="json")
    return encoded


def decode_source_info(encoded: Mapping[str, Any] | None) -> VideoInfo | None:
    """Return what `encode_source_info` was given; None if nothing is stored, or a version wrote it that differs."""
    try:
        return None if encoded is None else _SOURCE_INFO.validate_python(encoded)
    except ValidationError:
        return None
