"""How far the background of a moving still moves."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.analysis import AnalysedAvatar
from benchmarks.material import SAMPLES
from config import MediaLimits
from media.audio import extract_speech
from media.playback import Playback
from media.reader import FrameReader
from media.yuv_frame import YuvFrame
from models.speech.level import measure_level
from models.speech.prosody import Prosody, file_prosody

_NUM_FRAMES: Final = 375
_EVERY: Final = 15  # frames
_AROUND: Final = 5  # side of the square around pixels of the person that is left out


def background_flow(cached: AnalysedAvatar) -> float:
    """Returns the 95th percentile of the optical flow from the still, in pixels, where neither shows the person.

    NaN if the matte of the still is uncertain: its background moves.
    """
    avatar, layers = cached.avatar, cached.avatar.layers
    if layers is None:
        return float("nan")
    fps = float(avatar.info.fps)
    shown = avatar.shown_frames(range(_NUM_FRAMES), fps, Playback(), _prosody(fps))[::_EVERY].tolist()
    with FrameReader(cached.video, avatar.info, 2**20) as reader:
        (still,) = reader.read([0])
        frames = [frame.y for frame in avatar.frames(reader).read(shown)]
    mattes = avatar.matte_frames(_Matte(still._replace(y=layers.alpha))).read(shown)
    optical_flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    lengths: list[NDArray[np.float32]] = []
    for luma, matte in zip(frames, mattes, strict=True):
        person = cv2.dilate(np.maximum(layers.alpha, matte.y), np.ones((_AROUND, _AROUND)))
        flow = optical_flow.calc(
            np.ascontiguousarray(still.y), np.ascontiguousarray(luma), np.zeros((*luma.shape, 2), np.float32)
        )
        lengths.append(np.linalg.norm(flow, axis=-1)[person == 0])
    return float(np.percentile(np.concatenate(lengths), 95))


def _prosody(fps: float) -> Prosody:
    """Returns the prosody of the sample speech, and of the silence after it."""
    with tempfile.TemporaryDirectory() as folder:
        speech = Path(folder) / "speech.npy"
        extract_speech(SAMPLES / "speech.wav", speech, MediaLimits())
        return file_prosody(speech, measure_level(speech), np.arange(_NUM_FRAMES) / fps)


class _Matte:
    """A matte as a `FrameSource` of one frame."""

    def __init__(self, matte: YuvFrame) -> None:
        self._matte = matte

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        return (self._matte for _ in indices)

    def close(self) -> None:
        pass
