"""Which part of a source a result shows, and at which size, aspect ratio and frame rate."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from lipwright.media.frame_rate import nominal_rate
from lipwright.media.probe import MIN_SIDE, VideoInfo

MAX_PIXELS: Final = 3840 * 2160
"""Most pixels of a result."""
MAX_ASPECT: Final = 4
"""Largest ratio of the longer side of a result to the shorter one."""
MAX_OUTPUT_FPS: Final = 60
_SAME_ASPECT: Final = Fraction(1, 100)
_MIN_SIDE: Final = 64


def parse_size(text: str) -> tuple[int, int]:
    """Return (width, height) of a text such as `1080x1920`.

    Raises:
        ValueError: It is not such a text, or the size is odd, too small, too large or too narrow.
    """
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip().lower())
    if found is None:
        raise ValueError(f"expected WIDTHxHEIGHT, such as 1080x1920, found {text[:40]!r}")
    width, height = int(found[1]), int(found[2])
    if width % 2 or height % 2:
        raise ValueError(f"expected an even width and height, found {width}x{height}")
    if min(width, height) < _MIN_SIDE:
        raise ValueError(f"expected at least {_MIN_SIDE} pixels on each side, found {width}x{height}")
    if width * height > MAX_PIXELS:
        raise ValueError(f"expected at most {MAX_PIXELS} pixels, found {width}x{height}")
    _check_aspect(Fraction(width, height), text)
    return width, height


def parse_aspect(text: str) -> Fraction:
    """Return the aspect ratio of a text such as `9:16`.

    Raises:
        ValueError: It is not such a text, or the ratio is too large.
    """
    found = re.fullmatch(r"(\d{1,4}):(\d{1,4})", text.strip())
    if found is None or not int(found[1]) or not int(found[2]):
        raise ValueError(f"expected WIDTH:HEIGHT, such as 9:16, found {text[:40]!r}")
    aspect = Fraction(int(found[1]), int(found[2]))
    _check_aspect(aspect, text)
    return aspect


def check_same_aspect(size: tuple[int, int], aspect: Fraction) -> None:
    """Raise ValueError for a size that does not have an aspect ratio, within a hundredth."""
    if abs(Fraction(*size) / aspect - 1) > _SAME_ASPECT:
        raise ValueError(
            f"size: {size[0]}x{size[1]} has another aspect ratio than crop, {aspect.numerator}:{aspect.denominator}. "
            "Leave crop out: the picture is cropped to the aspect ratio of size."
        )


def _check_aspect(aspect: Fraction, text: str) -> None:
    if not Fraction(1, MAX_ASPECT) <= aspect <= MAX_ASPECT:
        raise ValueError(f"expected an aspect ratio from 1:{MAX_ASPECT} to {MAX_ASPECT}:1, found {text[:40]}")


@dataclass(frozen=True)
class Framing:
    """The part of a source that a result shows, and the result's size, in pixels; all are even.

    Where the part lies may differ from frame to frame, see `lipwright.media.output.crop_path`.
    """

    crop_width: int
    crop_height: int
    width: int
    height: int

    @property
    def is_scaled(self) -> bool:
        """Whether the part is shown at another size than in the source."""
        return (self.crop_width, self.crop_height) != (self.width, self.height)

    def crops(self, info: VideoInfo) -> bool:
        """Return whether it shows less than a whole frame of a source."""
        return (self.crop_width, self.crop_height) != (info.width, info.height)


@dataclass(frozen=True)
class OutputSize:
    """The requested size and aspect ratio of the picture; None keeps that of the source."""

    size: tuple[int, int] | None = None
    aspect: Fraction | None = None

    def framing(self, info: VideoInfo) -> Framing:
        """Return the largest part of a source that has the requested aspect ratio, and the size to show it at."""
        aspect = self.aspect if self.size is None else Fraction(*self.size)
        crop = (info.width, info.height) if aspect is None else _part(info, aspect)
        return Framing(*crop, *(self.size or crop))


def output_info(info: VideoInfo, framing: Framing, fps: float | None) -> VideoInfo:
    """Return the description of the video that shows a source so; `fps` None keeps its rate."""
    return replace(
        info,
        width=framing.width,
        height=framing.height,
        fps=info.fps if fps is None else nominal_rate(Fraction(fps)),
        # A requested size is in square pixels; a crop keeps those of the source.
        sample_aspect_ratio=Fraction(1) if framing.is_scaled else info.sample_aspect_ratio,
        rotation=0,
        is_mirrored=False,
        is_variable_rate=False,
    )


def _part(info: VideoInfo, aspect: Fraction) -> tuple[int, int]:
    """Return the size of the largest part with an aspect ratio; a whole side if that differs by less than 2 pixels."""
    pixels = aspect / info.sample_aspect_ratio
    width, height = min(Fraction(info.width), info.height * pixels), min(Fraction(info.height), info.width / pixels)
    return _even(width, info.width), _even(height, info.height)


def _even(side: Fraction, whole: int) -> int:
    return whole if whole - side < 2 else max(MIN_SIDE, round(side / 2) * 2)
