"""Messages between the Director and the stages. All are picklable; bulk data travels by file or by Ray's object store.

Files are named by their keys (`storage.file_keys`); each stage fetches them itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from media.labels.watermark import Corner
from media.playback import Playback
from media.probe import AudioInfo, VideoInfo
from media.sound_mix import SoundSettings
from models.engines.protocol import FrameSpan
from models.mouth.motion import RunningStats
from models.speech.level import SpeechLevel

HOLD_S: Final = 60.0
"""Seconds for which `hold` protects an avatar that is shown live from eviction."""


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


class RenderedSegment(NamedTuple):
    """One rendered segment.

    Attributes:
        num_bytes: Size of its file.
        sha256: Hash of its content, taken before it was written; hexadecimal.
        silent_motion: See `models.engines.patches.FacePatches`; over all its frames.
    """

    num_bytes: int
    sha256: str
    silent_motion: RunningStats = RunningStats()


class SegmentWatermark(NamedTuple):
    """The visible watermark of one segment.

    Attributes:
        corners: The corners of the frame that show it; empty for no watermark.
        num_frames: How many of the segment's first frames show it; None for all.
    """

    corners: tuple[Corner, ...] = ()
    num_frames: int | None = None


class OutputInfo(NamedTuple):
    """The video that the segments of a job make up.

    Attributes:
        num_frames: Frames of all segments.
        produce_id: Identifies the video in its labels.
        sound: How its sound is mixed.
    """

    num_frames: int
    produce_id: str
    sound: SoundSettings = SoundSettings()


class PreparedSpeech(NamedTuple):
    """Decoded speech, with what is measured once over all of it.

    Attributes:
        key: Key of a .npy file: (N,) int16, 16 kHz mono.
        info: The audio as it was uploaded.
        level: Its loudness.
    """

    key: str
    info: AudioInfo
    level: SpeechLevel


class BlockFeatures(NamedTuple):
    """The speech behind the T output frames of a block.

    Attributes:
        features: The audio features, in a form that only the engine knows.
        stress: (T,) float32, see `models.speech.stress`.
    """

    features: object
    stress: NDArray[np.float32]


@dataclass(frozen=True)
class AvatarRef:
    """Where stages find an avatar.

    Attributes:
        folder: Key of its folder, see `models.avatar.avatar.Avatar`.
        source: Its video or still.
    """

    folder: str
    source: SourceVideo


@dataclass(frozen=True)
class BlockRequest:
    """The output frames to plan.

    Attributes:
        avatar: The avatar that speaks.
        engine: Name of the engine.
        span: The output frames.
        playback: How the source is played.
        expressiveness: See `models.avatar.avatar.Avatar`.
    """

    avatar: AvatarRef
    engine: str
    span: FrameSpan
    playback: Playback
    expressiveness: float = 1.0


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
