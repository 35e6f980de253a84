"""An avatar made of arithmetic, and speech made of tones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from media.probe import ColourTags, VideoInfo
from media.yuv_frame import YuvFrame, from_rgb
from models.avatar.avatar import Avatar
from models.engines.dinet.engine import DinetEngine
from models.engines.protocol import EngineSettings, FrameSpan
from models.geometry.head_frame import HeadPose, mean_face
from models.mouth.lip_model import LipModel
from models.speech.level import SpeechLevel, measure_level
from models.track.face_track import finish_track
from models.track.skip_reason import SkipReason
from tests.unit.models.engines.brought import Brought

SIDE, NUM_FRAMES, EYES = 192, 12, 60.0
ABSENT = (6, 7)
COLOUR = ColourTags(1, False, 1, 1)


class Frames:
    """Satisfies `FrameSource`: pictures in memory, a colour that changes slowly over place and time."""

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        for index in indices:
            y, x = np.mgrid[:SIDE, :SIDE]
            rgb = [130 + 60 * np.sin(x / (13 + c) + index / 5) * np.cos(y / (17 + c)) for c in range(3)]
            yield from_rgb(np.stack(rgb, -1).astype(np.uint8), COLOUR)

    def close(self) -> None: ...


def make_avatar(folder: Path) -> Avatar:
    """An avatar of 12 frames whose mouth opens and whose head moves; two frames have no face."""
    time = np.arange(NUM_FRAMES)
    shapes = (0.5 * np.sin(time) ** 2)[:, None] * np.array([1, 0.95, -0.2, 0.1, 0.87, 0.7, 0, -0.2]) * 0.1
    head = LipModel.load().deform(mean_face().astype(np.float32), shapes.astype(np.float32))
    place = np.stack([SIDE / 2 + 2 * np.sin(time / 3), SIDE * 0.4 + np.cos(time / 3), 0 * time], 1)
    turned = np.repeat(np.diag([1.0, -1.0, -1.0])[None], NUM_FRAMES, 0)
    points = HeadPose(np.full(NUM_FRAMES, EYES), turned, place).to_image(head)
    skip_reason = np.where(np.isin(time, ABSENT), SkipReason.NO_FACE, SkipReason.SHOWN).astype(np.uint8)
    track = finish_track(points, skip_reason == SkipReason.SHOWN, skip_reason=skip_reason, fps=4.0)
    info = VideoInfo(
        *(SIDE, SIDE, Fraction(25), NUM_FRAMES, NUM_FRAMES / 25, 0, False, False, COLOUR, "h264", "yuv420p", False)
    )
    return Avatar(folder, info, track)


def make_engine(options: dict[str, Any] | None = None, **paths: Path) -> DinetEngine:
    """An engine of the given files."""
    return DinetEngine(EngineSettings(Brought(paths), options or {}))


def make_speech(folder: Path, num_samples: int) -> tuple[Path, SpeechLevel]:
    """A speech file of tones that come and go, with noise."""
    time = np.arange(num_samples) / 16000
    tones = np.sin(2 * np.pi * 180 * time) + 0.5 * np.sin(2 * np.pi * 1100 * time * (1 + 0.1 * np.sin(time)))
    sound = 6000 * tones * np.sin(2.5 * time) ** 2 + np.random.default_rng(1).normal(0, 40, num_samples)
    path = folder / f"speech{num_samples}.npy"
    np.save(path, sound.astype(np.int16))
    return path, measure_level(path)


def spans(total: int, sizes: Iterable[int], fps: Fraction = Fraction(25)) -> Iterator[FrameSpan]:
    """Consecutive spans of a job."""
    first = 0
    for size in sizes:
        yield FrameSpan(fps, first, size, total)
        first += size
