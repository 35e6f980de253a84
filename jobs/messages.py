"""What travels between the Director and the stages. All picklable; bulk data goes by file or by the object store.

Files are named by their keys (`storage.file_keys`): each stage finds them for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from media.labels.watermark import Corner
from media.playback import Loop
from media.probe import AudioInfo, VideoInfo
from models.engines.protocol import FrameSpan
from models.mouth.motion import RunningStats
from models.speech.level import SpeechLevel

HOLD_S: Final = 60.0
"""How long an avatar that is shown live stays without another word of it."""


_SOURCE_INFO: Final = TypeAdapter(VideoInfo)


class ProbeResult(NamedTuple):
    """What the probe found; None for what was not asked."""

    video: VideoInfo | None
    audio: AudioInfo | None


@dataclass(frozen=True)
class SourceVideo:
    """A face source: its key, and what the probe found."""

    key: str
    info: VideoInfo


class RenderedSegment(NamedTuple):
    """One segment that is written.

    Attributes:
        num_bytes: Of its file.
        sha256: Of its file, taken before it was written.
        silent_motion: See `models.engines.patches.FacePatches`, of all its frames.
    """

    num_bytes: int
    sha256: str
    silent_motion: RunningStats = RunningStats()


class SegmentWatermark(NamedTuple):
    """The visible mark of one segment.

    Attributes:
        corners: Where it stands; nowhere if there are none.
        num_frames: Frames from the segment's first one on that have it; None for all.
    """

    corners: tuple[Corner, ...] = ()
    num_frames: int | None = None


class OutputInfo(NamedTuple):
    """What a job's segments are together.

    Attributes:
        num_frames: Of all of them.
        produce_id: What labels call the video.
    """

    num_frames: int
    produce_id: str


class PreparedSpeech(NamedTuple):
    """A sound file as engines hear it, and what is measured once for the whole of it.

    Attributes:
        key: .npy of 16 kHz mono int16.
        info: The sound as it came.
        level: How loud it is.
    """

    key: str
    info: AudioInfo
    level: SpeechLevel


class BlockFeatures(NamedTuple):
    """What there is to know of the speech in some output frames.

    Attributes:
        features: What the engine hears in it, the engine's own.
        stress: (T,) float32 of each frame, see `models.speech.stress`.
    """

    features: Any
    stress: NDArray[np.float32]


@dataclass(frozen=True)
class AvatarRef:
    """An avatar as stages find it: what it is made of, and where it is kept.

    Attributes:
        folder: Key of the folder of `models.avatar.avatar.Avatar`.
        source: The video, or the still.
    """

    folder: str
    source: SourceVideo


@dataclass(frozen=True)
class BlockRequest:
    """Which output frames to plan.

    Attributes:
        avatar: Who speaks.
        engine: Name of the engine.
        span: The output frames.
        loop: What to do where the source is shorter than the speech.
    """

    avatar: AvatarRef
    engine: str
    span: FrameSpan
    loop: Loop


def encode_source_info(info: VideoInfo) -> dict[str, Any]:
    """Returns JSON values for `AvatarRecord.source_info`."""
    encoded: dict[str, Any] = _SOURCE_INFO.dump_python(info, mode="json")
    return encoded


def decode_source_info(encoded: Mapping[str, Any] | None) -> VideoInfo | None:
    """Returns what `encode_source_info` was given; None if nothing is stored, or a version wrote it that differs."""
    try:
        return None if encoded is None else _SOURCE_INFO.validate_python(encoded)
    except ValidationError:
        return None
