"""Frames of a moving still: their numbers, and the landmarks of their rows."""

from __future__ import annotations

import numpy as np
import pytest

from models.avatar.face_region import FaceRegion
from models.avatar.still_frame import MAX_TURN, NUM_FRAMES, NUM_ROWS, StillFrames, turned_track
from models.geometry.face_points import RIGID
from models.geometry.head_frame import fit_head_pose
from models.track.face_track import FaceTrack
from tests.unit.models.avatar.frames import frame_of
from tests.unit.models.still import Still


@pytest.fixture(scope="module")
def turned(still: Still) -> FaceTrack:
    return turned_track(still.track)


def test_still_frames_of_index_restores_the_values() -> None:
    rng, num = np.random.default_rng(1), 2000
    frames = StillFrames(
        rng.uniform(-1, 1, (num, 3)) * MAX_TURN,
        rng.uniform(0, 1, num),
        rng.uniform(-0.026, 0.026, (num, 2)),
        rng.uniform(-0.03, 0.06, num),
        rng.uniform(0, 0.02, num),
        rng.uniform(0, 1, num),
    )
    index = frames.index()
    assert index.dtype == np.int64
    assert index.min() >= 0 and index.max() < NUM_FRAMES
    shown = StillFrames.of(index)
    assert np.abs(shown.turn - frames.turn).max() < np.radians(0.03)
    for name in ("closing", "smile"):
        assert np.abs(getattr(shown, name) - getattr(frames, name)).max() < 0.017
    for name in ("gaze", "brows", "breath"):
        assert np.abs(getattr(shown, name) - getattr(frames, name)).max() < 0.0006
    rows = StillFrames.of(index % NUM_ROWS)
    assert np.abs(rows.turn - frames.turn).max() < np.radians(0.41), "the row is the nearest pose of the grid"
    assert not rows.closing.any() and not rows.gaze.any() and not rows.smile.any()


def test_still_frames_values_beyond_limits_are_clipped() -> None:
    far = StillFrames.of(
        frame_of(pitch=30.0, yaw=-30.0, closing=2.0, gaze=(1.0, -1.0), brows=1.0, breath=-1.0, smile=-1.0)
    )
    np.testing.assert_allclose(np.abs(far.turn[0, :2]), MAX_TURN[:2], atol=0.003)
    assert (far.closing[0], far.breath[0], far.smile[0]) == (1, 0, 0)
    assert far.gaze[0].tolist() == pytest.approx([0.031, -0.032]) and far.brows[0] == pytest.approx(0.063)


def test_turned_track_begins_with_the_still(still: Still, turned: FaceTrack) -> None:
    assert frame_of().tolist() == [0]
    np.testing.assert_allclose(turned.points[0], still.track.points[0], atol=1e-3)
    assert np.shares_memory(turned.head_points[0], turned.head_points[-1])
    assert not turned.head_points.flags.writeable
    with pytest.raises(ValueError, match="one frame"):
        turned_track(turned)


def test_turned_track_landmarks_turn_rigidly(still: Still, turned: FaceTrack) -> None:
    assert turned.num_frames == NUM_ROWS
    rows = np.concatenate([frame_of(pitch=2.0), frame_of(yaw=2.0), frame_of(roll=2.4)]) % NUM_ROWS
    fitted = fit_head_pose(turned.points[rows])
    np.testing.assert_allclose(fitted.rotation, turned.rotation[rows], atol=2e-3)
    yaw, pitch, roll = (turned.pose_degrees[rows] - still.track.pose_degrees).T
    np.testing.assert_allclose([pitch[0], yaw[1], -roll[2]], [-2.0, 2.0, 2.4], atol=0.25)
    eyes = np.linalg.norm(turned.points[:, RIGID[20]] - turned.points[:, RIGID[23]], axis=1)
    np.testing.assert_allclose(eyes, eyes[0], rtol=1e-4)
    np.testing.assert_array_equal(turned.shape[rows], np.repeat(still.track.shape, 3, 0))


def test_face_region_of_turned_track_keeps_its_size(still: Still, turned: FaceTrack) -> None:
    region = FaceRegion.of(turned)
    assert region.size == FaceRegion.of(still.track).size
    assert (np.ptp(region.origins, 0) >= 2).all()
