"""The variants of the network: kind of audio features, number of frames, width.

Two generations are in use, which differ in the number of audio channels: anliyuan/Ultralight-Digital-Human (README and
unet.py of 2026) takes 8 frames, the one that lipku/LiveTalking serves (ultralight/unet.py) takes 16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor
from typing import Final, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.engines.paste.crop import BoxChunk
from models.engines.protocol import FrameSpan

AudioKind = Literal["hubert", "wenet"]

SIDE: Final = 160
"""Pixels of the picture that the network reads and writes."""
WIDTHS: Final = (32, 16)
"""Channels of the first layer: 32 as published, 16 where unet.py says "on a mobile device"."""
AUDIO_KEY: Final = "audio_model.conv1.conv.0.weight"
WIDTH_KEY: Final = "outc.conv.weight"
# Names of the checkpoints before and after the repository unwrapped two containers of one module each.
_OLD_NAMES: Final = ((".maxpool_conv.0.", ".maxpool_conv."), ("inc.inconv.0.", "inc.inconv."))


@dataclass(frozen=True)
class Variant:
    """One network of the family."""

    audio_kind: AudioKind = "hubert"  # kind of audio features
    num_frames: int = 8  # video frames of sound that it takes at once, half of them before its own: 8 or 16
    width: int = 32  # channels of the first layer

    @property
    def audio_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the audio features of one frame; face_utils.py (`reshape_audio_feat`), datasetsss.py."""
        if self.audio_kind == "hubert":
            return 2 * self.num_frames, 32, 32  # rows of 1024, two a frame
        return 16 * self.num_frames, 16, 32  # (16, 512) a frame


_BY_CHANNELS: Final[Mapping[int, tuple[AudioKind, int]]] = {
    16: ("hubert", 8),
    32: ("hubert", 16),
    128: ("wenet", 8),
    256: ("wenet", 16),
}


def published_name(name: str) -> str:
    """Map a parameter name of an older checkpoint to the current one."""
    for old, new in _OLD_NAMES:
        name = name.replace(old, new)
    return name


def variant_of_tensors(shapes: Mapping[str, tuple[int, ...]]) -> Variant | None:
    """Determine the variant from the shapes of the parameters by name.

    Returns None if they are not of this family, or of a width that was not published for these features.
    """
    audio, out = shapes.get(AUDIO_KEY), shapes.get(WIDTH_KEY)
    if audio is None or out is None or len(audio) != 4 or len(out) != 4 or audio[1] not in _BY_CHANNELS:
        return None
    audio_kind, num_frames = _BY_CHANNELS[audio[1]]
    if out[0] != 3 or out[1] not in WIDTHS or (audio_kind == "wenet" and out[1] != WIDTHS[0]):
        return None
    return Variant(audio_kind, num_frames, out[1])


def unknown_variant(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return why `variant_of_tensors` does not recognise these parameters."""
    audio, width = (shapes.get(key) for key in (AUDIO_KEY, WIDTH_KEY))
    return (
        f"expected {AUDIO_KEY} for 16 or 32 (HuBERT) or 128 or 256 channels (WeNet) and {WIDTH_KEY} "
        f"(3, 32, 1, 1), found {audio} and {width}"
    )


def variant_of_audio(shape: tuple[int, ...]) -> Variant | None:
    """Determines the variant, except its width, from the (B, C, H, W) of the audio input of an ONNX export."""
    if len(shape) != 4 or shape[1] not in _BY_CHANNELS:
        return None
    audio_kind, num_frames = _BY_CHANNELS[shape[1]]
    variant = Variant(audio_kind, num_frames)
    return variant if tuple(shape[1:]) == variant.audio_shape else None


# Audio features of some output frames, each row stored once, and the windows that the network gets.
#
# Neighbouring windows share almost all of their rows, so rows are sent and windows are built where they are needed.

MAX_FRAMES: Final = 16
"""Widest window of any generation, in video frames."""


class RowGrid(NamedTuple):
    """Timing of the rows of one kind of features."""

    per_second: int  # rows a second; row r is at r / per_second seconds
    step: int  # rows from one member of a window to the next
    per_frame: int  # members for each video frame of the window


# HuBERT: two rows of 20 ms per frame, because training used 25 fps. WeNet: one chunk per frame, because training used
# 20 fps (README.md); a chunk may start at any frame of the filter bank, 10 ms apart, so that audio and frame stay
# aligned at other rates.
GRIDS: Final[dict[AudioKind, RowGrid]] = {"hubert": RowGrid(50, 1, 2), "wenet": RowGrid(100, 5, 1)}


@dataclass(frozen=True)
class UltralightFeatures:
    """T output frames and the rows around them."""

    audio_kind: AudioKind  # kind of features
    centres: NDArray[np.int64]  # (T,) row at which each frame is
    ids: NDArray[np.int64]  # (R,) ascending: which rows these are
    rows: NDArray[np.float32]  # (R, K), K = 1024 for HuBERT, 16 x 512 for WeNet
    gate: NDArray[np.float32]  # (T,) 1 in speech, 0 in silence, between them while fading

    def __len__(self) -> int:
        return len(self.centres)

    def slice(self, start: int, stop: int) -> Self:
        """Return frames [start, stop) with copies of the rows in their windows."""
        centres = self.centres[start:stop].copy()
        kept = np.isin(self.ids, window_ids(self.audio_kind, centres, MAX_FRAMES))
        return type(self)(self.audio_kind, centres, self.ids[kept], self.rows[kept], self.gate[start:stop].copy())

    def windows(self, variant: Variant) -> NDArray[np.float32]:
        """Arrange features for the network.

        Before the start and after the end of the sound are zeros, as face_utils.py (`gather_audio_window`) has it.

        Returns:
            (T, C, H, W) float32, see `Variant.audio_shape`.
        """
        ids = window_ids(self.audio_kind, self.centres, variant.num_frames)
        place = np.searchsorted(self.ids, ids).clip(0, max(len(self.ids) - 1, 0))
        windows = np.zeros((*ids.shape, self.rows.shape[1]), np.float32)
        if len(self.ids):
            is_there = self.ids[place] == ids
            windows[is_there] = self.rows[place[is_there]]
        return windows.reshape(len(ids), *variant.audio_shape)


def frame_rows(audio_kind: AudioKind, span: FrameSpan) -> NDArray[np.int64]:
    """Return (T,) the row nearest to each frame of the span."""
    return span.nearest_rows(GRIDS[audio_kind].per_second)


def window_ids(audio_kind: AudioKind, centres: NDArray[np.int64], num_frames: int) -> NDArray[np.int64]:
    """Return (T, W) rows of the windows: half of the video frames before each frame, itself and the rest after it.

    Frames i - 4 to i + 3 of anliyuan/Ultralight-Digital-Human (face_utils.py), i - 8 to i + 7 of lipku/LiveTalking
    (ultralight/audio2feature.py).
    """
    grid = GRIDS[audio_kind]
    members = np.arange(grid.per_frame * num_frames, dtype=np.int64) - grid.per_frame * num_frames // 2
    return centres[:, None] + grid.step * members


def wanted_ids(audio_kind: AudioKind, span: FrameSpan, num_rows: int) -> NDArray[np.int64]:
    """Return all rows in [0, num_rows) that windows of the span can contain, ascending."""
    ids = np.unique(window_ids(audio_kind, frame_rows(audio_kind, span), MAX_FRAMES))
    return ids[(ids >= 0) & (ids < num_rows)]


def num_job_samples(num_samples: int, span: FrameSpan, sample_rate: int) -> int:
    """Return the samples of the whole job: the file, then silence until the end of the last frame."""
    return max(num_samples, -floor(-span.total * sample_rate / span.fps))


# The plan of some output frames: source frames, and the features that drive them.

CENTRES, IDS, ROWS = "centres", "ids", "rows"
"""Names in a chunk: of the faces' rows, of the rows that are there, and of what they hold; see `UltralightFeatures`."""


@dataclass(frozen=True)
class UltralightPlan:
    """T output frames; implements `models.engines.protocol.Plan`."""

    first_frame: int  # output frame of row 0
    source_index: NDArray[np.int32]  # (T,) source frame that is shown
    features: UltralightFeatures  # the rows around them, each once

    def __post_init__(self) -> None:
        if len(self.features) != len(self.source_index):
            raise ValueError(f"Expected sound for {len(self.source_index)} frames, got {len(self.features)}.")

    def __len__(self) -> int:
        return len(self.source_index)

    def slice(self, start: int, stop: int) -> UltralightPlan:
        """Return frames [start, stop) as copies, so that sending a slice does not send everything."""
        return UltralightPlan(
            self.first_frame + start, self.source_index[start:stop].copy(), self.features.slice(start, stop)
        )


def features_by_face(chunk: BoxChunk, audio_kind: AudioKind) -> UltralightFeatures:
    """Return the features of the N faces of a chunk."""
    centres = chunk.arrays[CENTRES]
    return UltralightFeatures(
        audio_kind, centres, chunk.extra[IDS], chunk.extra[ROWS], np.ones(len(centres), np.float32)
    )
