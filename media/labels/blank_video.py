"""Writes a video of one grey frame, to test signing at startup."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from media.probe import ColourTags, VideoInfo
from media.writer import SegmentWriter
from media.yuv_frame import YuvFrame

_SIDE: Final = 64
_GREY: Final = 128


def write_blank_video(out: Path) -> None:
    """Write the video."""
    info = VideoInfo(
        width=_SIDE,
        height=_SIDE,
        fps=Fraction(25),
        num_frames=1,
        duration_seconds=1 / 25,
        rotation=0,
        is_still=True,
        is_variable_rate=False,
        colour=ColourTags(1, False, 1, 1),
        codec="h264",
        pixel_format="yuv420p",
        has_audio=False,
    )
    writer = SegmentWriter(info, crf=20, preset="ultrafast")
    writer.write(YuvFrame(*(np.full((side, side), _GREY, np.uint8) for side in (_SIDE, _SIDE // 2, _SIDE // 2))))
    out.write_bytes(writer.finish())
