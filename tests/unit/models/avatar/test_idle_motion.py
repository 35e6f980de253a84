"""Idle motion: what is planned for a still portrait, and the landmarks that follow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from media.yuv_frame import YuvFrame
from models.avatar.face_region import FaceRegion
from models.avatar.idle_motion import IDLE_SECONDS, NUM_LEVELS, IdleMotion
from models.geometry.face_points import RIGID
from models.geometry.head_frame import fit_head_pose, pose_degrees
from tests.unit.models.still import FPS, Still


def test_the_same_picture_moves_alike_and_another_does_not(still: Still, motion: IdleMotion) -> None:
    again = IdleMotion.plan(still.planes, still.track, FPS)
    np.testing.assert_array_equal(again.rotation, motion.rotation)
    np.testing.assert_array_equal(again.closing, motion.closing)
    darker = YuvFrame(still.planes.y // 2, still.planes.u, still.planes.v)
    assert np.abs(IdleMotion.plan(darker, still.track, FPS).rotation - motion.rotation).max() > 1e-3


def test_the_head_sways_a_little_and_never_jumps(motion: IdleMotion) -> None:
    assert motion.num_frames == IDLE_SECONDS * FPS
    degrees = np.degrees(motion.rotation)
    assert (np.ptp(degrees, 0) > 1).all()
    assert np.abs(degrees).max() < 2.5
    assert 0.01 < np.abs(motion.shift).max() < 0.05
    for values in (motion.rotation, motion.shift, motion.breath[:, None]):
        np.testing.assert_allclose(values[[0, -1]], 0, atol=1e-12)
        # It turns around at both ends: forward and backward play goes on without a jerk.
        there_and_back = np.concatenate([values, values[-2:0:-1], values[:2]])
        jerk = np.abs(np.diff(there_and_back, 2, axis=0)).max(0)
        assert (jerk < 0.04 * np.ptp(values, 0)).all()


def test_eyes_close_at_irregular_intervals_and_faster_than_they_open(motion: IdleMotion) -> None:
    shut = motion.closing == 1
    starts = np.flatnonzero(shut & ~np.roll(shut, 1))
    assert 2 <= len(starts) <= 5
    pauses = np.diff(starts) / FPS
    assert (pauses > 2).all() and (pauses < 7).all()
    falls = np.diff(motion.closing)
    for start in starts:
        closing, opening = (falls[start - 5 : start] > 0).sum(), (falls[start : start + 9] < 0).sum()
        assert 2 <= closing <= 3 < opening <= 6
    assert motion.closing[[0, -1]].max() == 0


@pytest.mark.parametrize("fps", [10, 24, 60])
def test_each_blink_shows_shut_eyes_at_any_frame_rate(still: Still, fps: int) -> None:
    closing = IdleMotion.plan(still.planes, still.track, fps).closing
    rises = np.flatnonzero((closing[1:] > 0) & (closing[:-1] == 0)) + 1
    assert len(rises) >= 2
    assert all(closing[start : start + fps // 2].max() == 1 for start in rises)


def test_landmarks_turn_rigidly_with_the_head(still: Still, motion: IdleMotion) -> None:
    moved = motion.move(still.track)
    assert moved.num_frames == motion.num_rows == NUM_LEVELS * motion.num_frames
    at_rest = [0, motion.num_frames - 1]
    np.testing.assert_allclose(moved.points[at_rest], np.repeat(still.track.points, 2, 0), atol=1e-3)
    fitted = fit_head_pose(moved.points)
    np.testing.assert_allclose(fitted.rotation, moved.rotation, atol=2e-3)
    turned = pose_degrees(moved.rotation) - pose_degrees(still.track.rotation)
    assert (np.ptp(turned, 0) > 1).all()
    np.testing.assert_array_equal(moved.shape, np.repeat(still.track.shape, motion.num_rows, 0))
    eyes = np.linalg.norm(moved.points[:, RIGID[20]] - moved.points[:, RIGID[23]], axis=1)
    np.testing.assert_allclose(eyes, eyes[0], rtol=1e-4)


def test_a_head_is_pitched_down_with_the_stress_of_what_it_says(still: Still, motion: IdleMotion) -> None:
    moved, frame = motion.move(still.track), np.full(3, 40)
    calm, half, strong = motion.rows(frame, np.array([0.0, 0.5, 1.0]))
    assert calm == 40, "what is not stressed is the plan as it is"
    down = moved.pose_degrees[calm, 1] - moved.pose_degrees[[half, strong], 1]
    np.testing.assert_allclose(down, [1.5, 3.0], atol=0.1)
    unit = float(still.track.scale[0])
    lower = (moved.points[strong] - moved.points[calm])[[1, 13, 152], 1] / unit  # nose, lips, chin
    assert (lower > 0.03).all()
    np.testing.assert_array_equal(moved.shape[strong], moved.shape[calm])


def test_rows_are_the_nearest_levels(motion: IdleMotion) -> None:
    frame, stress = np.arange(300), np.linspace(0, 1, 300)
    rows = motion.rows(frame, stress)
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(rows % motion.num_frames, frame)
    assert np.abs(motion.nod[rows // motion.num_frames] - stress * motion.nod[-1]).max() < np.radians(0.1)
    assert (rows < motion.num_rows).all()


def test_what_all_rows_share_is_held_once(still: Still, motion: IdleMotion) -> None:
    moved = motion.move(still.track)
    assert np.shares_memory(moved.head_points[0], moved.head_points[-1])
    assert not moved.head_points.flags.writeable


def test_the_region_keeps_its_size_and_follows(still: Still, motion: IdleMotion) -> None:
    region = FaceRegion.of(motion.move(still.track))
    assert region.size == FaceRegion.of(still.track).size
    assert (np.ptp(region.origins, 0) >= 2).all()


def test_a_face_at_the_border_only_blinks_and_raises_its_brows(still: Still) -> None:
    shifted = replace(still.track, points=still.track.points - [still.track.points[..., 0].min(), 0, 0])
    motion = IdleMotion.plan(still.planes, shifted, FPS)
    assert np.abs(motion.rotation).max() == np.abs(motion.shift).max() == np.abs(motion.breath).max() == 0
    assert np.abs(motion.nod).max() == 0
    assert motion.closing.max() == 1


def test_a_saved_plan_is_the_same(motion: IdleMotion, tmp_path: Path) -> None:
    motion.save(tmp_path / "motion.npz")
    loaded = IdleMotion.load(tmp_path / "motion.npz")
    for name in ("rotation", "shift", "breath", "closing", "nod", "brow_rise"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(motion, name))


def test_only_a_track_of_one_frame_can_be_moved(still: Still, motion: IdleMotion) -> None:
    with pytest.raises(ValueError, match="one frame"):
        motion.move(motion.move(still.track))
