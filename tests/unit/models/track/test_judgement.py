from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from errors import FaceNotFoundError
from models.geometry.head_frame import HeadPose, mean_face
from models.track.judgement import MIN_EYE_DISTANCE, judge
from models.track.pass_reason import PassReason
from models.track.raw_landmarks import RawLandmarks
from models.track.tracker import CHECK_EVERY

NUM = 60


def heads(yaw: NDArray[np.float64], eyes: float = 80.0) -> NDArray[np.float32]:
    """(T, 468, 3) the mean face, turned."""
    turn = Rotation.from_euler("Y", yaw[:, None], degrees=True).as_matrix() @ np.diag([1.0, -1.0, -1.0])
    count = len(yaw)
    pose = HeadPose(np.full(count, eyes), turn, np.tile([200.0, 150.0, 0.0], (count, 1)))
    return pose.to_image(np.repeat(mean_face()[None], count, 0)).astype(np.float32)


def raw(reasons: NDArray[np.uint8], points: NDArray[np.float32] | None = None) -> RawLandmarks:
    points = heads(np.zeros(len(reasons))) if points is None else points
    scenes = np.tile((np.arange(864) % 200).astype(np.uint8), (len(reasons), 1))
    likeness = np.full(len(reasons), 0.31, np.float32)
    return RawLandmarks(points, reasons == PassReason.SHOWN, reasons, scenes, None, likeness)


def test_a_head_that_turns_away_passes_and_one_at_the_limit_does_not_flicker() -> None:
    yaw = np.concatenate([np.linspace(0, 52, 30), 41 + np.tile([1.0, -1.0], 10), np.linspace(40, 0, 10)])
    passed = judge(raw(np.zeros(NUM, np.uint8), heads(yaw))).passed
    away = np.flatnonzero(passed == PassReason.TURNED_AWAY)
    assert (np.diff(away) == 1).all()  # one stretch: at 40 to 42 degrees it has not come back yet
    assert yaw[away[0]] == pytest.approx(43, abs=3)
    assert (passed[: away[0]] == PassReason.SHOWN).all()
    assert passed[-5:].max() == PassReason.SHOWN


def test_a_profile_that_looks_like_nobody_is_turned_away() -> None:
    reasons = np.zeros(NUM, np.uint8)
    reasons[20:40] = PassReason.OTHER_PERSON
    yaw = np.concatenate([np.linspace(0, 55, 20), np.full(20, 55.0), np.linspace(55, 0, 20)])
    passed = judge(raw(reasons, heads(yaw))).passed
    away = np.flatnonzero(passed == PassReason.TURNED_AWAY)
    assert set(range(20, 40)) < set(away.tolist())
    assert (np.diff(away) == 1).all()


def test_a_weak_turned_face_is_turned_away() -> None:
    half = raw(np.zeros(NUM, np.uint8), heads(np.full(NUM, 34.0)))
    presence = np.where(np.arange(NUM) < 30, 18.0, 5.0).astype(np.float32)
    passed = judge(half._replace(presence=presence)).passed
    assert passed[:27].max() == PassReason.SHOWN
    assert (passed[33:] == PassReason.TURNED_AWAY).all()


def test_a_face_of_a_few_pixels_is_too_small() -> None:
    points = np.concatenate([heads(np.zeros(30)), heads(np.zeros(30), MIN_EYE_DISTANCE - 1)])
    passed = judge(raw(np.zeros(NUM, np.uint8), points)).passed
    assert passed[:28].max() == PassReason.SHOWN
    assert (passed[32:] == PassReason.TOO_SMALL).all()


def test_a_look_that_turned_out_to_be_anothers_was_that_before() -> None:
    reasons = np.zeros(NUM, np.uint8)
    reasons[40:] = PassReason.OTHER_PERSON
    passed = judge(raw(reasons)).passed
    assert (passed[40 - CHECK_EVERY : 40] == PassReason.OTHER_PERSON).all()
    assert passed[: 40 - CHECK_EVERY].max() == PassReason.SHOWN


def test_at_a_cut_the_frames_before_stay() -> None:
    reasons = np.zeros(NUM, np.uint8)
    reasons[40:] = PassReason.OTHER_PERSON
    cut = raw(reasons)
    assert cut.scenes is not None
    cut.scenes[40:] = cut.scenes[0, ::-1]
    judged = judge(cut)
    assert judged.shot.tolist() == [0] * 40 + [1] * 20
    assert judged.passed[:40].max() == PassReason.SHOWN


def test_nobody_to_show_is_an_error_that_says_why() -> None:
    with pytest.raises(FaceNotFoundError, match=r"reference picture .* at least 0\.50.* 60 of 60 .* 0\.31"):
        judge(raw(np.full(NUM, PassReason.OTHER_PERSON, np.uint8)))
    with pytest.raises(FaceNotFoundError, match="the head turned away in 60 of 60"):
        judge(raw(np.zeros(NUM, np.uint8), heads(np.full(NUM, 55.0))))


def test_landmarks_without_pictures_are_one_shot() -> None:
    present = ~np.isin(np.arange(NUM), range(5, 15))
    judged = judge(RawLandmarks(heads(np.zeros(NUM)), present))
    assert judged.shot.max() == 0
    assert judged.passed.tolist() == np.where(present, PassReason.SHOWN, PassReason.NO_FACE).tolist()


@pytest.mark.parametrize("reason", [PassReason.NO_FACE, PassReason.OTHER_PERSON])
@pytest.mark.parametrize("num_frames", [5, 6])
def test_short_gaps_are_rewritten_where_they_hide_nobody(reason: PassReason, num_frames: int) -> None:
    reasons = np.zeros(NUM, np.uint8)
    reasons[30 : 30 + num_frames] = reason
    judged = judge(raw(reasons), fps=25.0)  # fades of .2 s are five frames
    is_bridged = reason == PassReason.NO_FACE and num_frames == 5
    assert (judged.passed[30 : 30 + num_frames] == (PassReason.SHOWN if is_bridged else reason)).all()
    assert not judged.visible[30 : 30 + num_frames].any()  # nothing is learned from them
    assert judged.visible.sum() == NUM - num_frames - (CHECK_EVERY if reason == PassReason.OTHER_PERSON else 0)


def test_gaps_at_the_ends_and_beside_cuts_stay() -> None:
    reasons = np.zeros(NUM, np.uint8)
    reasons[[0, 1, 39, NUM - 1]] = PassReason.NO_FACE
    cut = raw(reasons)
    assert cut.scenes is not None
    cut.scenes[40:] = cut.scenes[0, ::-1]
    assert np.flatnonzero(judge(cut).passed).tolist() == [0, 1, 39, NUM - 1]
