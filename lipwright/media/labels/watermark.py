"""The visible watermark: a line of text in a corner of the frame, drawn in its YUV planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.output.dynamic_range import from_sdr_rgb
from lipwright.media.probe import VideoInfo
from lipwright.media.yuv_frame import YuvFrame

Corner = Literal["bottom_right", "top_right"]
TEXTS: Final = {"en": "AI generated", "zh": "AI 生成"}
"""Text by language; `samples.make_watermarks` renders it into watermarks.npz."""
_FILE: Final = Path(__file__).with_name("watermarks.npz")
_MIN_CAP_ROWS: Final = 10
"""Smaller letters are not legible."""
BLACK, WHITE = 0, 255  # SDR levels of RGB, as is _SHADED
_SHADED: Final = 128
"""What white becomes behind the text; everything else there is darkened as much."""
NEUTRAL: Final = 128
"""Chroma of grey."""


class FrameMark(Protocol):
    """A watermark on consecutive frames of one video."""

    def draw(self, planes: YuvFrame) -> None:
        """Draw it on the writable planes of the next frame, in place."""

    def cover(self, alpha: NDArray[np.uint8]) -> None:
        """Make the pixels of the mark opaque in the (H, W) alpha of that frame, in place."""


class WatermarkStyle(NamedTuple):
    """Appearance of a watermark.

    Attributes:
        language: Language of its text, a key of `TEXTS`.
        height: Height of its capital letters, as a share of the frame's shorter side.
    """

    language: str
    height: float


@dataclass(frozen=True)
class Overlay:
    """A grey picture over part of a frame: its position, with gain and offset of each sample in the planes."""

    x: int
    y: int
    luma: tuple[NDArray[np.float32], NDArray[np.float32]]  # (h, w) gain and offset
    chroma: tuple[NDArray[np.float32], NDArray[np.float32]]  # (h/2, w/2)

    def cover(self, alpha: NDArray[np.uint8]) -> None:
        """See `FrameMark`."""
        gain, _ = self.luma
        region = alpha[self.y : self.y + gain.shape[0], self.x : self.x + gain.shape[1]]
        region[:] = np.maximum(region, np.rint(255 * (1 - gain)).astype(np.uint8))

    def draw(self, planes: YuvFrame) -> None:
        """Draw it on writable planes, in place."""
        _scale(planes.y, self.x, self.y, self.luma)
        for plane in (planes.u, planes.v):
            _scale(plane, self.x // 2, self.y // 2, self.chroma)


class Watermark:
    """Draws the watermark on frames of one size.

    Args:
        info: Size, range and pixel aspect of the frames.
        style: Language and height.
        corners: The corners to draw it in.
    """

    def __init__(self, info: VideoInfo, style: WatermarkStyle, corners: Sequence[Corner]) -> None:
        text = _scale_text(info, style)
        self._boxes = [_box(info, text, corner) for corner in corners]

    def cover(self, alpha: NDArray[np.uint8]) -> None:
        """See `FrameMark`."""
        for box in self._boxes:
            box.cover(alpha)

    def draw(self, planes: YuvFrame) -> None:
        """Draw the watermark on writable planes, in place."""
        for box in self._boxes:
            box.draw(planes)


@cache
def _draw_texts() -> tuple[dict[str, NDArray[np.uint8]], int]:
    """Return the texts as (H, W) coverage from 0 to 255, and the height of their capital letters in rows."""
    with np.load(_FILE) as file:
        return {language: file[language] for language in TEXTS}, int(file["cap_rows"])


def _scale_text(info: VideoInfo, style: WatermarkStyle) -> NDArray[np.float32]:
    """Return (h, w) coverage of the text from 0 to 1 with a margin, h and w even, no larger than the frame."""
    texts, drawn_rows = _draw_texts()
    text, aspect = texts[style.language], float(info.sample_aspect_ratio)
    # The shorter side in square pixels; a text that is too wide is shrunk to the width of the frame.
    cap_rows = max(_MIN_CAP_ROWS, style.height * min(info.height, info.width * aspect))
    margin = round(cap_rows / 2)
    width = text.shape[1] * cap_rows / drawn_rows / aspect
    shrink = min(1.0, max(2, info.width - 2 * margin) / width)
    height = text.shape[0] * cap_rows / drawn_rows * shrink
    size = (max(1, round(width * shrink)), max(1, min(round(height), info.height - 2)))
    scaled = cv2.resize(text, size, interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
    padded = np.pad(scaled, margin // 2)[: info.height, : info.width]
    return padded[: padded.shape[0] & ~1, : padded.shape[1] & ~1]


def _box(info: VideoInfo, text: NDArray[np.float32], corner: Corner) -> Overlay:
    height, width = text.shape
    margin = max(0, min(height // 4, (info.height - height) // 2, (info.width - width) // 2))
    x = (info.width - width - margin) & ~1
    y = margin & ~1 if corner == "top_right" else (info.height - height - margin) & ~1
    black, shaded, white = grey_levels(info, BLACK, _SHADED, WHITE)
    kept = (shaded - black) / (white - black)
    half = text.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3), dtype=np.float32)
    return Overlay(x, y, _gain(text, kept, black, white), _gain(half, kept, NEUTRAL, NEUTRAL))


def grey_levels(info: VideoInfo, *levels: int) -> list[int]:
    """Return the luma of SDR greys, 0 to 255, in pictures with the range and the dynamic range of `info`."""
    row = np.repeat(np.array(levels, np.uint8), 2)
    pixels = np.broadcast_to(row[None, :, None], (2, len(row), 3))
    return [int(luma) for luma in from_sdr_rgb(pixels, info.colour).y[0, ::2]]


def _gain(
    text: NDArray[np.float32], kept: float, shade: int, ink: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return gain and offset of the text in `ink` over the picture, mixed with `shade` by `1 - kept`."""
    behind = 1 - text
    return behind * np.float32(kept), behind * np.float32((1 - kept) * shade) + text * np.float32(ink)


def _scale(plane: NDArray[np.uint8], x: int, y: int, to: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    gain, offset = to
    region = plane[y : y + gain.shape[0], x : x + gain.shape[1]]
    region[:] = np.rint(region * gain + offset)
