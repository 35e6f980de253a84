"""A still portrait, and its matte, as frame sources: read like a video, drawn while they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import numpy as np

from lipwright.media.frame_source import FrameSource
from lipwright.media.yuv_frame import YuvFrame
from models.avatar.eyelids import Eyelids, EyeState
from models.avatar.head_warp import HeadWarp
from models.avatar.still_frame import NUM_FRAMES, StillFrames
from models.avatar.still_layers import BackgroundPlane, StillLayers
from models.track.face_track import FaceTrack


class _Layers(NamedTuple):
    """The inputs from which frames are drawn."""

    picture: YuvFrame  # the still, with its eyes as last drawn
    eyelids: Eyelids
    warp: HeadWarp


class MovingStill:
    """Frames of a moving still; a `lipwright.media.frame_source.FrameSource`.

    The reader of the picture is closed by `close`; the first frame of the track is the still.
    """

    def __init__(self, still: FrameSource, track: FaceTrack, layers: StillLayers | None = None) -> None:
        """Draw with the reader of the picture; without its `layers`, the background moves with the head."""
        self._reader, self._track, self._separated = still, track, layers

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        """Draw and yield frames in the order of `indices`, see `models.avatar.still_frame`.

        Yields:
            Read-only planes of the size of the still, bit-identical to it where nothing moves; the same ones for
            consecutive equal indices.

        Raises:
            ValueError: An index is out of range.
        """
        return _draw_each(indices, self._draw)

    def _draw(self, shown: StillFrames) -> YuvFrame:
        picture, eyelids, warp = self._layers
        right, down = shown.gaze[0].tolist()
        eyelids.draw(picture, EyeState(float(shown.closing[0]), right, down, float(shown.smile[0])))
        frame = warp.render(picture, shown)
        for plane in frame:
            plane.flags.writeable = False
        return frame

    @cached_property
    def _layers(self) -> _Layers:
        (picture,) = self._reader.read([0])
        height, width = picture.y.shape
        return _Layers(
            YuvFrame(*(plane.copy() for plane in picture)),
            Eyelids(picture, self._track.points[0], float(self._track.scale[0])),
            HeadWarp(self._track, width, height, self._separated),
        )

    def close(self) -> None:
        """Close the source picture; planes already returned stay valid."""
        self._reader.close()


class MovingMatte:
    """The matte of a still, moving as the still does; a `lipwright.media.frame_source.FrameSource` with alpha as luma.

    Its eyes do not move: they are inside the face.
    """

    def __init__(self, matte: FrameSource, track: FaceTrack, layers: StillLayers | None = None) -> None:
        self._reader, self._track, self._separated = matte, track, layers

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        """Yield the matte of the frames that `MovingStill.read` draws for `indices`.

        Raises:
            ValueError: An index is out of range.
        """
        return _draw_each(indices, self._draw)

    def _draw(self, shown: StillFrames) -> YuvFrame:
        matte, warp, background = self._layers
        alpha = warp.render_luma(matte.y, shown, background)
        alpha.flags.writeable = False
        return matte._replace(y=alpha)

    @cached_property
    def _layers(self) -> tuple[YuvFrame, HeadWarp, BackgroundPlane | None]:
        (matte,) = self._reader.read([0])
        height, width = matte.y.shape
        background = None if self._separated is None else self._separated.of_matte(matte.y)
        return matte, HeadWarp(self._track, width, height, self._separated), background

    def close(self) -> None:
        """Close the matte; planes already returned stay valid."""
        self._reader.close()


def _draw_each(indices: Iterable[int], draw: Callable[[StillFrames], YuvFrame]) -> Iterator[YuvFrame]:
    """Yield one frame per index; consecutive equal indices are drawn once."""
    for index, equal in groupby(indices):
        if not 0 <= index < NUM_FRAMES:
            raise ValueError(f"Expected an index in [0, {NUM_FRAMES}), got {index = }.")
        frame = draw(StillFrames.of(np.array([index])))
        for _ in equal:
            yield frame
