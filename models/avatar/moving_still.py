"""A still portrait, and its matte, as frame sources: read like a video, drawn while they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from media.frame_source import FrameSource
from media.yuv_frame import YuvFrame
from models.avatar.eyelids import Eyelids
from models.avatar.head_warp import HeadWarp
from models.avatar.idle_motion import IdleMotion
from models.track.face_track import FaceTrack


class _Layers(NamedTuple):
    """The inputs from which frames are drawn."""

    picture: YuvFrame  # the still, with its eyes as last drawn
    eyelids: Eyelids
    warp: HeadWarp


class MovingStill:
    """Frames of a still animated by `motion`; a `media.frame_source.FrameSource`.

    The reader of the picture is closed by `close`; the first frame of the track is the still.
    """

    def __init__(self, still: FrameSource, track: FaceTrack, motion: IdleMotion) -> None:
        self._reader = still
        self._track = track
        self._motion = motion

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        """Draws and yields frames in the order of `indices`: rows in [0, K * N), see `models.avatar.idle_motion`.

        Yields:
            Read-only planes of the size of the still, bit-identical to it where nothing moves.

        Raises:
            ValueError: An index is out of range.
        """
        for index in _checked(indices, self._motion):
            picture, eyelids, warp = self._layers
            eyelids.draw(picture, float(self._motion.closing[index % self._motion.num_frames]))
            frame = warp.render(picture, index)
            for plane in frame:
                plane.flags.writeable = False
            yield frame

    @cached_property
    def _layers(self) -> _Layers:
        (picture,) = self._reader.read([0])
        height, width = picture.y.shape
        return _Layers(
            YuvFrame(*(plane.copy() for plane in picture)),
            Eyelids(picture, self._track.points[0], float(self._track.scale[0])),
            HeadWarp(self._track, self._motion, width, height),
        )

    def close(self) -> None:
        """Closes the source picture; planes already returned stay valid."""
        self._reader.close()


class MovingMatte:
    """The matte of a still, moving as the still does; a `media.frame_source.FrameSource` with alpha as luma.

    Its eyelids do not move: they are inside the face.
    """

    def __init__(self, matte: FrameSource, track: FaceTrack, motion: IdleMotion) -> None:
        self._reader, self._track, self._motion = matte, track, motion

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        """Yields the matte of the frames that `MovingStill.read` draws for `indices`.

        Raises:
            ValueError: An index is out of range.
        """
        for index in _checked(indices, self._motion):
            matte, warp = self._layers
            alpha = warp.render_luma(matte.y, index)
            alpha.flags.writeable = False
            yield matte._replace(y=alpha)

    @cached_property
    def _layers(self) -> tuple[YuvFrame, HeadWarp]:
        (matte,) = self._reader.read([0])
        height, width = matte.y.shape
        return matte, HeadWarp(self._track, self._motion, width, height)

    def close(self) -> None:
        """Closes the matte; planes already returned stay valid."""
        self._reader.close()


def _checked(indices: Iterable[int], motion: IdleMotion) -> Iterator[int]:
    for index in indices:
        if not 0 <= index < motion.num_rows:
            raise ValueError(f"Expected an index in [0, {motion.num_rows}), got {index = }.")
        yield index
