"""Backgrounds (a colour, a picture, a video, the blurred source), and the person put in front of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from lipwright.media.frame_source import FrameSource
from lipwright.media.matte import Foreground, ScreenColour
from lipwright.media.output.dynamic_range import from_sdr_rgb, is_same_range, to_range
from lipwright.media.output.picture import YuvaFrame, resize_plane
from lipwright.media.playback import Playback
from lipwright.media.probe import ColourTags, VideoInfo
from lipwright.media.yuv_frame import YuvFrame, from_rgb, to_rgb

_BLUR_STEP: Final = 8
"""The blurred background is computed at an eighth of the resolution."""
_BLUR: Final = 1 / 30
"""Standard deviation of the blur, as a share of the frame's longer side."""
_LITTLE: Final = 1e-3


class Backdrop(Protocol):
    """Draws what is behind the person in consecutive pictures."""

    def draw(self, frame: YuvFrame, alpha: NDArray[np.uint8]) -> YuvFrame:
        """Return the next background, of the size and colours of `frame`; `alpha` is 255 where the person is."""
        ...


class ColourBackdrop:
    """One colour, as `checked_background` returns it."""

    def __init__(self, colour: str, tags: ColourTags) -> None:
        pixels = np.full((16, 16, 3), ImageColor.getrgb(colour), np.uint8)
        self._values = [int(plane[0, 0]) for plane in from_sdr_rgb(pixels, tags)]
        self._drawn: YuvFrame | None = None

    def draw(self, frame: YuvFrame, alpha: NDArray[np.uint8]) -> YuvFrame:
        """See `Backdrop`."""
        if self._drawn is None or self._drawn.y.shape != frame.y.shape:
            self._drawn = YuvFrame(
                *(np.full(plane.shape, value, np.uint8) for plane, value in zip(frame, self._values, strict=True))
            )
        return self._drawn


class BlurBackdrop:
    """The source's own background out of focus; the person's colours do not bleed into it."""

    def draw(self, frame: YuvFrame, alpha: NDArray[np.uint8]) -> YuvFrame:
        """See `Backdrop`."""
        height, width = alpha.shape
        size = max(1, width // _BLUR_STEP), max(1, height // _BLUR_STEP)
        sigma = _BLUR * max(size)
        share = 1 - cv2.resize(alpha, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        weight = cv2.GaussianBlur(share, (0, 0), sigma)
        wide = cv2.GaussianBlur(share, (0, 0), 4 * sigma)
        planes = []
        for plane in frame:
            seen = cv2.resize(plane, size, interpolation=cv2.INTER_AREA).astype(np.float32) * share
            near = cv2.GaussianBlur(seen, (0, 0), sigma)
            # Inside the person, where nothing is near, the background from farther away.
            far = cv2.GaussianBlur(seen, (0, 0), 4 * sigma) / (wide + _LITTLE)
            blurred = (near + _LITTLE * far) / (weight + _LITTLE)
            whole = cv2.resize(blurred, plane.shape[::-1], interpolation=cv2.INTER_CUBIC)
            planes.append(np.clip(np.rint(whole), 0, 255).astype(np.uint8))
        return YuvFrame(*planes)


class VideoBackdrop:
    """A picture, or a video that plays from its start; it fills the frame and is cropped to it.

    Args:
        source: Its frames.
        info: Its description.
        tags: The colours to convert it to, and their dynamic range.
        playback: How it plays.
        frames: The frames of the result to draw.
    """

    def __init__(
        self, source: FrameSource, info: VideoInfo, tags: ColourTags, playback: Playback, frames: range
    ) -> None:
        index = playback.source_frames(frames, info.num_frames) if not info.is_still else np.zeros(1, np.int32)
        self._frames: Iterator[YuvFrame] = source.read(index.tolist())
        self._info, self._tags = info, tags
        self._drawn: YuvFrame | None = None

    def draw(self, frame: YuvFrame, alpha: NDArray[np.uint8]) -> YuvFrame:
        """See `Backdrop`.

        Raises:
            MediaError: The video cannot be decoded.
        """
        if self._drawn is None or not self._info.is_still:
            self._drawn = fitted(next(self._frames), self._info, frame.y.shape, self._tags)
        return self._drawn


def fitted(picture: YuvFrame, info: VideoInfo, shape: tuple[int, ...], tags: ColourTags) -> YuvFrame:
    """Return a picture scaled to fill `shape`, (H, W), and cropped to it, with the colours of `tags`.

    Args:
        picture: A frame of `info`.
        info: Its colours, and the aspect of its pixels.
        shape: The new size, even.
        tags: The matrix, range and dynamic range to convert it to.
    """
    height, width = shape
    aspect = float(info.sample_aspect_ratio)
    scale = max(width / (picture.y.shape[1] * aspect), height / picture.y.shape[0])
    part_width = min(picture.y.shape[1], 2 * max(1, round(width / scale / aspect / 2)))
    part_height = min(picture.y.shape[0], 2 * max(1, round(height / scale / 2)))
    x, y = (picture.y.shape[1] - part_width) // 4 * 2, (picture.y.shape[0] - part_height) // 4 * 2
    planes = []
    for plane, step in zip(picture, (1, 2, 2), strict=True):
        part = plane[y // step : (y + part_height) // step, x // step : (x + part_width) // step]
        planes.append(resize_plane(part, (height // step, width // step)))
    own = info.colour
    if (own.matrix, own.full_range) == (tags.matrix, tags.full_range) and is_same_range(own, tags):
        return YuvFrame(*planes)
    return from_rgb(to_range(to_rgb(YuvFrame(*planes), own), own, tags), tags)


class Cutout:
    """Implements `lipwright.media.output.picture.Composite`.

    Args:
        backdrop: What is behind the person; None for nothing: the result is transparent there.
        screen: Colour of the screen before which the person was filmed.
    """

    def __init__(self, backdrop: Backdrop | None, screen: ScreenColour | None = None) -> None:
        self._backdrop, self._screen = backdrop, screen

    def draw(self, frame: YuvFrame, alpha: NDArray[np.uint8]) -> YuvFrame:
        """See `Composite`."""
        person = Foreground(frame, alpha, self._screen)
        return person.alone() if self._backdrop is None else person.over(self._backdrop.draw(frame, alpha))


class MattedFrames:
    """The frames of a source, each with its matte; a `FrameSource`."""

    def __init__(self, frames: FrameSource, mattes: FrameSource) -> None:
        self._frames, self._mattes = frames, mattes

    def read(self, indices: Iterable[int]) -> Iterator[YuvaFrame]:
        """Yield frames in the order of `indices`; see `FrameSource.read`."""
        wanted = list(indices)
        for frame, matte in zip(self._frames.read(wanted), self._mattes.read(wanted), strict=True):
            yield YuvaFrame.of(frame, matte.y)

    def close(self) -> None:
        """Close both."""
        self._frames.close()
        self._mattes.close()
