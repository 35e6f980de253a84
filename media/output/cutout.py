"""Puts the person of a frame in front of another background."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from media.frame_source import FrameSource
from media.matte.foreground import Foreground, ScreenColour
from media.output.backdrop import Backdrop
from media.output.picture import YuvaFrame
from media.yuv_frame import YuvFrame


class Cutout:
    """Implements `media.output.picture.Composite`.

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
