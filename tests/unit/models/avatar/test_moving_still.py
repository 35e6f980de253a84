"""A still portrait that is read like a video."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from media.playback import Playback
from models.avatar.avatar import Avatar
from models.avatar.folder import TRACK_FILE
from models.avatar.moving_still import MovingMatte, MovingStill
from models.avatar.still_frame import NUM_FRAMES, NUM_ROWS
from models.speech.prosody import Prosody
from models.track.face_track import FaceTrack
from tests.unit.models.avatar.frames import frame_of
from tests.unit.models.still import FPS, OneFrame, Still

_AWAKE = int(frame_of(pitch=2.0, yaw=-2.0, roll=1.0, gaze=(0.01, 0.0))[0])
_ASLEEP = int(frame_of(pitch=2.0, yaw=-2.0, roll=1.0, closing=1.0)[0])


def test_moving_still_frames_do_not_depend_on_order(still: Still) -> None:
    indices = [0, _AWAKE, int(frame_of(closing=0.5)[0]), _ASLEEP, int(frame_of(gaze=(0.01, 0.0))[0])]
    with closing(MovingStill(still.reader(), still.track)) as frames:
        forward = list(frames.read(indices))
        backward = list(frames.read(indices[::-1]))[::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one.y, other.y)
        assert one.y.shape == (still.info.height, still.info.width)
        assert not any(plane.flags.writeable for plane in one)
    np.testing.assert_array_equal(forward[0].y, still.planes.y)
    assert all((frame.y != still.planes.y).any() for frame in forward[1:])


@pytest.mark.parametrize("source", [MovingStill, MovingMatte])
def test_moving_still_repeated_frame_is_drawn_once(still: Still, source: type[MovingStill] | type[MovingMatte]) -> None:
    with closing(source(still.reader(), still.track)) as frames:
        first, again, other, last = frames.read([_AWAKE, _AWAKE, 0, _AWAKE])
    assert first is again and first is not last
    assert (first.y == last.y).all() and (first.y != other.y).any()


@pytest.mark.parametrize("index", [-1, NUM_FRAMES])
def test_moving_still_index_outside_is_refused(still: Still, index: int) -> None:
    frames = MovingStill(still.reader(), still.track)
    with closing(frames), pytest.raises(ValueError, match=f"index = {index}"):
        list(frames.read([index]))


def test_moving_still_turned_head_closes_its_eyes(still: Still) -> None:
    with closing(MovingStill(still.reader(), still.track)) as frames:
        awake, asleep, front = (frame.y.astype(float) for frame in frames.read([_AWAKE, _ASLEEP, 0]))
    x, y = still.track.points[0, [159, 145], :2].mean(0).round().astype(int)  # the middle of an eye
    pupil = front[y - 3 : y + 4, x - 3 : x + 4].min()
    around = np.s_[y - 12 : y + 13, x - 12 : x + 13]
    assert awake[around].min() < pupil + 15 and asleep[around].min() > awake[around].min() + 10
    assert np.sort(asleep[around].ravel())[:40].mean() > np.sort(awake[around].ravel())[:40].mean() + 20


def test_avatar_of_a_still_has_moving_frames(still: Still, tmp_path: Path) -> None:
    with still.reader() as reader:
        built = Avatar.build(tmp_path, still.info, still.raw, reader)
    avatar = Avatar.load(tmp_path)
    assert avatar.info == built.info == still.info
    assert avatar.info.is_still and not avatar.talks
    assert avatar.track.num_frames == built.track.num_frames == NUM_ROWS
    np.testing.assert_array_equal(avatar.track.points, built.track.points)
    assert FaceTrack.load(tmp_path / TRACK_FILE).num_frames == 1, "the rest is made of it"
    with closing(avatar.frames(still.reader())) as frames:
        start, later = frames.read([0, _AWAKE])
    np.testing.assert_array_equal(start.y, still.planes.y)
    assert (later.y != start.y).any()


def test_shown_frames_of_a_still_depend_on_time_and_motion(still: Still, tmp_path: Path) -> None:
    with still.reader() as reader:
        avatar = Avatar.build(tmp_path, still.info, still.raw, reader)
    slow, fast = (
        avatar.shown_frames(range(3 * fps, 4 * fps), fps, Playback(), Prosody.silence(fps)) for fps in (FPS, 2 * FPS)
    )
    assert len(set(slow.tolist())) > 15
    np.testing.assert_array_equal(slow[:3], fast[:6:2])
    rows = avatar.rows(slow)
    assert rows.dtype == np.int32 and rows.max() < NUM_ROWS and not np.array_equal(rows, slow)
    assert not avatar.shown_frames(range(4), FPS, Playback(), Prosody.silence(4), motion=0).any()


def test_moving_matte_moves_with_the_picture(still: Still) -> None:
    """The luma of the still, taken as a matte, moves like the luma itself, and its eyes do not shut."""
    indices = [int(frame_of(pitch=2.0, yaw=-2.0)[0]), int(frame_of(roll=2.0, breath=0.01, brows=0.02)[0]), _ASLEEP]
    with (
        closing(MovingStill(still.reader(), still.track)) as frames,
        closing(MovingMatte(OneFrame(still.planes), still.track)) as mattes,
    ):
        pairs = list(zip(frames.read(indices), mattes.read(indices), strict=True))
    for frame, matte in pairs[:-1]:
        np.testing.assert_array_equal(frame.y, matte.y)
        assert not matte.y.flags.writeable
    assert (pairs[-1][0].y != pairs[-1][1].y).any(), "the lids are drawn into the picture only"
