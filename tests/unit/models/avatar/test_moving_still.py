"""A still portrait that is read like a video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from media.playback import Playback
from media.yuv_frame import YuvFrame
from models.avatar.avatar import Avatar
from models.avatar.folder import TRACK_FILE
from models.avatar.idle_motion import NUM_LEVELS, IdleMotion
from models.avatar.moving_still import MovingMatte, MovingStill
from models.track.face_track import FaceTrack
from tests.unit.models.still import FPS, Still


def test_frames_are_the_same_in_any_order(still: Still, motion: IdleMotion) -> None:
    shut = int(motion.closing.argmax())
    indices = [0, shut - 1, shut, shut + 20]
    with closing(MovingStill(still.reader(), still.track, motion)) as frames:
        forward = [frame.y.copy() for frame in frames.read(indices)]
        backward = [frame.y.copy() for frame in frames.read(indices[::-1])][::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(forward[0], still.planes.y)
    assert all((frame != still.planes.y).any() for frame in forward[1:])


def test_frames_stay_valid_and_read_only(still: Still, motion: IdleMotion) -> None:
    with closing(MovingStill(still.reader(), still.track, motion)) as frames:
        first, second = frames.read([0, 90])
    assert (first.y != second.y).any()
    assert first.y.shape == second.y.shape == (still.info.height, still.info.width)
    assert not any(plane.flags.writeable for plane in second)


def test_a_frame_outside_the_plan_is_refused(still: Still, motion: IdleMotion) -> None:
    with (
        closing(MovingStill(still.reader(), still.track, motion)) as frames,
        pytest.raises(ValueError, match="index = 5100"),
    ):
        list(frames.read([5100]))


def test_eyes_are_as_wide_in_a_nod_as_without_it(still: Still, motion: IdleMotion) -> None:
    shut = int(motion.closing.argmax())
    rows = motion.rows(np.array([shut, 0]), np.ones(2)).tolist()
    with closing(MovingStill(still.reader(), still.track, motion)) as frames:
        asleep, awake = (frame.y.astype(float) for frame in frames.read(rows))
    moved = motion.move(still.track)
    darkest = []
    for luma, row in ((asleep, rows[0]), (awake, rows[1])):
        x, y = moved.points[row, [159, 145], :2].mean(0).round().astype(int)  # the middle of an eye
        darkest.append(luma[y - 3 : y + 4, x - 3 : x + 4].min())
    assert darkest[0] > darkest[1] + 30, "a pupil is seen in the other one only"


def test_the_avatar_of_a_still_is_a_source_of_moving_frames(still: Still, tmp_path: Path) -> None:
    with still.reader() as reader:
        built = Avatar.build(tmp_path, still.info, still.raw, reader)
    avatar = Avatar.load(tmp_path)
    assert avatar.info == built.info
    assert avatar.info.is_still and not avatar.talks
    assert avatar.info.num_frames == 12 * FPS
    assert avatar.track.num_frames == built.track.num_frames == NUM_LEVELS * 12 * FPS
    np.testing.assert_array_equal(avatar.track.points, built.track.points)
    assert FaceTrack.load(tmp_path / TRACK_FILE).num_frames == 1, "the rest is made of it"
    assert avatar.info.duration_seconds == pytest.approx(12)
    with closing(avatar.frames(still.reader())) as frames:
        start, later = frames.read([0, 150])
    np.testing.assert_array_equal(start.y, still.planes.y)
    assert (later.y != start.y).any()
    with closing(built.frames(still.reader())) as frames:
        (again,) = frames.read([150])
    np.testing.assert_array_equal(again.y, later.y)


def test_a_still_nods_with_the_speech_and_a_frozen_one_does_not(still: Still, tmp_path: Path) -> None:
    with still.reader() as reader:
        avatar = Avatar.build(tmp_path, still.info, still.raw, reader)
    num, stress = avatar.info.num_frames, np.array([0, 0.25, 1.0, 0])
    frames = range(num - 2, num + 2)  # over the end, where the source turns around
    shown = avatar.shown_frames(frames, Playback(), stress)
    assert avatar.places(shown) == [num - 2, num - 1, num - 2, num - 3]
    np.testing.assert_array_equal(shown // num, [0, 4, 16, 0])
    assert avatar.shown_frames(frames, Playback(), stress, is_moving=False).tolist() == [0] * 4


class _OneFrame:
    """A `FrameSource` of one picture."""

    def __init__(self, frame: YuvFrame) -> None:
        self._frame = frame

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        for index in indices:
            assert index == 0
            yield self._frame

    def close(self) -> None:
        pass


def test_the_matte_moves_as_the_picture_does(still: Still, motion: IdleMotion) -> None:
    """The luma of the still, taken as a matte, moves like the luma itself, and its eyes do not shut."""
    shut = int(motion.closing.argmax())
    awake = [frame for frame in range(0, motion.num_frames, 40) if motion.closing[frame] == 0][:3]
    nod = motion.rows(np.array(awake[:1]), np.ones(1)).tolist()
    indices = [*awake, *nod, shut]
    with (
        closing(MovingStill(still.reader(), still.track, motion)) as frames,
        closing(MovingMatte(_OneFrame(still.planes), still.track, motion)) as mattes,
    ):
        pairs = list(zip(frames.read(indices), mattes.read(indices), strict=True))
    for frame, matte in pairs[:-1]:
        np.testing.assert_array_equal(frame.y, matte.y)
        assert not matte.y.flags.writeable
    assert (pairs[-1][0].y != pairs[-1][1].y).any(), "the lids are drawn into the picture only"
