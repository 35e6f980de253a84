"""A short marked video: a textured background with a bright disc that moves, as a face does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.watermark.embedder import InvisibleWatermark
from lipwright.media.writer import SegmentWriter
from lipwright.media.yuv_frame import YuvFrame
from tests.unit.media.clips import info_of

FPS = Fraction(25)
SIZE = (320, 240)
NUM_FRAMES = 200
IDENTIFIER = bytes.fromhex("0123456789abcdef")


def unmarked_lumas(num_frames: int = NUM_FRAMES) -> Iterator[NDArray[np.uint8]]:
    width, height = SIZE
    noise = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.float32)
    background = cv2.GaussianBlur(noise, (0, 0), 4)
    background = 110 + 20 * (background - background.mean()) / background.std()
    for number in range(num_frames):
        luma = background.astype(np.uint8)
        centre = (160 + round(20 * np.sin(number / 9)), 120 + round(10 * np.cos(number / 7)))
        cv2.circle(luma, centre, 60, 180, -1)
        yield luma


def marked_lumas(identifier: bytes = IDENTIFIER, num_frames: int = NUM_FRAMES) -> Iterator[NDArray[np.uint8]]:
    """The same with the watermark."""
    mark = InvisibleWatermark(info_of(*SIZE, FPS), identifier)
    for luma in unmarked_lumas(num_frames):
        mark.draw(planes_with(luma))
        yield luma


def planes_with(luma: NDArray[np.uint8]) -> YuvFrame:
    """A grey frame with this luma, which is not copied."""
    half = np.full((luma.shape[0] // 2, luma.shape[1] // 2), 128, np.uint8)
    return YuvFrame(luma, half, half)


def write_lumas(path: Path, lumas: Iterable[NDArray[np.uint8]], crf: int, fps: Fraction = FPS) -> Path:
    frames = list(lumas)
    writer = SegmentWriter(info_of(frames[0].shape[1], frames[0].shape[0], fps), crf, "veryfast")
    for luma in frames:
        writer.write(planes_with(luma))
    path.write_bytes(writer.finish())
    return path
