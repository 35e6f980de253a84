"""Backgrounds as requests name them, and as live sessions show them: made once, so that a frame costs little."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from lipwright.errors import MediaLimitError
from lipwright.media.frame_source import FrameSource
from lipwright.media.output.backdrop import fitted
from lipwright.media.playback import AfterEnd, Playback
from lipwright.media.probe import VideoInfo
from lipwright.media.writer import SegmentWriter

BLUR: Final = "blur"
SOURCE: Final = "source"
"""The background of the source itself, for an avatar with another default."""
TRANSPARENT: Final = "transparent"
MatteMode = Literal["auto", "person", "chroma"]
"""How the person is cut out: by segmentation, by the colour of a screen, or whichever fits."""


def checked_background(text: str) -> str:
    """Return `blur`, `transparent`, `source` or a colour as `#rrggbb`.

    Raises:
        ValueError: It is none of these, and not the name of a colour (CSS).
    """
    name = text.strip().lower()
    if name in (BLUR, TRANSPARENT, SOURCE):
        return name
    try:
        red, green, blue = np.clip(ImageColor.getrgb(name)[:3], 0, 255)
    except ValueError:
        raise ValueError(
            f"expected a colour such as #00b140 or white, `{BLUR}`, `{TRANSPARENT}` or `{SOURCE}`, "
            f"found {text[:40]!r}. Send a picture or a video as background_file."
        ) from None
    return f"#{red:02x}{green:02x}{blue:02x}"


FIT_VERSION: Final = "1"
"""Increment it when a change here invalidates what is stored."""

_CRF: Final = 18
_PRESET: Final = "superfast"


def check_length(info: VideoInfo, max_seconds: float) -> None:
    """Raise MediaLimitError for a video that is too long for a live session."""
    if not info.is_still and info.duration_seconds > max_seconds:
        raise MediaLimitError(
            f"background_file: expected a video of at most {max_seconds:g} s for live sessions, which repeat it, "
            f"found {info.duration_seconds:.1f} s. Send a shorter one."
        )


def fitted_info(own: VideoInfo, shown: VideoInfo, after_end: AfterEnd) -> VideoInfo:
    """Return the description of a background in the size, rate and colours of what is shown in front of it.

    Args:
        own: The background as it was sent.
        shown: The source of the session's avatar.
        after_end: What follows its end. With `pingpong`, its frames follow backwards, so that it can be looped.
    """
    num = len(_source_frames(own, shown, after_end))
    return replace(
        shown,
        num_frames=num,
        duration_seconds=float(num / shown.fps),
        rotation=0,
        is_still=own.is_still,
        is_variable_rate=False,
        codec="h264",
        pixel_format="yuv420p",
        has_audio=False,
        is_mirrored=False,
        frozen_seconds=0.0,
    )


def fit_background(
    source: FrameSource, own: VideoInfo, shown: VideoInfo, after_end: AfterEnd, num_threads: int = 1
) -> bytes:
    """Return a background as a video file, which `fitted_info` describes; blocks.

    Raises:
        MediaError: The background cannot be decoded.
    """
    made = fitted_info(own, shown, after_end)
    writer = SegmentWriter(made, _CRF, _PRESET, num_threads)
    for picture in source.read(_source_frames(own, shown, after_end).tolist()):
        writer.write(fitted(picture, own, (made.height, made.width), made.colour))
    return writer.finish()


def playback_of(after_end: AfterEnd) -> Playback:
    """Return how a fitted background is played."""
    return Playback("hold" if after_end == "hold" else "loop")


def _source_frames(own: VideoInfo, shown: VideoInfo, after_end: AfterEnd) -> NDArray[np.int32]:
    """Return the frames of the background, in the order in which they are stored."""
    if own.is_still:
        return np.zeros(1, np.int32)
    speed = float(own.fps / shown.fps)
    num = max(1, round(own.num_frames / speed))
    forward = Playback("hold", speed).source_frames(range(num), own.num_frames)
    return np.concatenate([forward, forward[-2:0:-1]]) if after_end == "pingpong" else forward
