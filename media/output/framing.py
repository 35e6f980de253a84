"""Which part of a source a result shows, and at which size and rate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from media.frame_rate import nominal_rate
from media.probe import MIN_SIDE, VideoInfo


@dataclass(frozen=True)
class Framing:
    """The part of a source that a result shows, and the result's size, in pixels; all are even.

    Where the part lies may differ from frame to frame, see `media.output.crop_path`.
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
