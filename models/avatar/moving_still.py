"""A still portrait as a source of many frames: read like a video, drawn as it is read."""

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


class _Puppet(NamedTuple):
    """What frames are drawn from."""

    picture: YuvFrame  # the still, its eyes as they were drawn last
    eyelids: Eyelids
    warp: HeadWarp


class MovingStill:
    """Frames of one still picture that `motion` moves: a `media.frame_source.FrameSource`.

    Args:
        still: Reads the picture; closed by `close`.
        track: The face in it; its first frame is the still's.
        motion: The plan of N frames and K levels of a nod.
    """

    def __init__(self, still: FrameSource, track: FaceTrack, motion: IdleMotion) -> None:
        self._reader = still
        self._track = track
        self._motion = motion

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        """Frames in the order of `indices`, drawn as they are asked for.

        Args:
            indices: Rows in the half-open range [0, K * N), see `models.avatar.idle_motion`, in any order, repeats
                allowed.

        Yields:
            Read-only planes of the still's size, bit-equal to it where and when nothing moves.

        Raises:
            ValueError: An index outside the range.
        """
        for index in indices:
            if not 0 <= index < self._motion.num_rows:
                raise ValueError(f"Expected an index in [0, {self._motion.num_rows}), got {index = }.")
            picture, eyelids, warp = self._puppet
            eyelids.draw(picture, float(self._motion.closing[index % self._motion.num_frames]))
            frame = warp.render(picture, index)
            for plane in frame:
                plane.flags.writeable = False
            yield frame

    @cached_property
    def _puppet(self) -> _Puppet:
        (picture,) = self._reader.read([0])
        height, width = picture.y.shape
        return _Puppet(
            YuvFrame(*(plane.copy() for plane in picture)),
            Eyelids(picture, self._track.points[0], float(self._track.scale[0])),
            HeadWarp(self._track, self._motion, width, height),
        )

    def close(self) -> None:
        """Closes the picture's file; planes already handed out stay valid."""
        self._reader.close()
