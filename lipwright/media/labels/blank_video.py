"""Plain videos to test this installation with: their description, and one of a single grey frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from lipwright.media.probe import ColourTags, VideoInfo
from lipwright.media.writer import SegmentWriter
from lipwright.media.yuv_frame import YuvFrame

FPS: Final = Fraction(25)
_SIDE: Final = 64
_GREY: Final = 128


def plain_info(side: int, num_frames: int) -> VideoInfo:
    """Return the description of a square H.264 video in BT.709, without sound."""
    return VideoInfo(
        width=side,
        height=side,
        fps=FPS,
        num_frames=num_frames,
        duration_seconds=float(num_frames / FPS),
        rotation=0,
        is_still=num_frames == 1,
        is_variable_rate=False,
        colour=ColourTags(1, False, 1, 1),
        codec="h264",
        pixel_format="yuv420p",
        has_audio=False,
    )


def write_blank_video(out: Path) -> None:
    """Write a video of one frame, to test signing."""
    writer = SegmentWriter(plain_info(_SIDE, 1), crf=20, preset="ultrafast")
    writer.write(YuvFrame(*(np.full((side, side), _GREY, np.uint8) for side in (_SIDE, _SIDE // 2, _SIDE // 2))))
    out.write_bytes(writer.finish())
