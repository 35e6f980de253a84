import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from errors import FaceNotFoundError
from models.geometry.head_frame import HeadPose, mean_face
from models.track.raw_landmarks import RawLandmarks, SkipReason
from models.track.tracker import CHECK_EVERY
from models.track.visibility import MIN_EYE_DISTANCE, assess_visibility

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
    return RawLandmarks(points, reasons == SkipReason.NONE, reasons, scenes, None, likeness)


def test_assess_visibility_fades_while_the_head_turns() -> None:
    yaw = np.concatenate([np.linspace(0, 70, 40), np.full(20, 70.0)])
    judged = assess_visibility(raw(np.zeros(NUM, np.uint8), heads(yaw)))
    assert (judged.facing[yaw < 52] == 1).all() and (judged.facing[yaw > 62] == 0).all()
    fading = judged.facing[(yaw > 55) & (yaw < 59)]
    assert (fading > 0).all() and (fading < 1).all()
    assert (np.diff(judged.facing) <= 0).all()
    away = judged.skip_reason == SkipReason.TURNED_AWAY
    assert (away == (judged.facing == 0)).all()
    mixed = assess_visibility(raw(np.zeros(NUM, np.uint8), heads(np.where(np.arange(NUM) < 30, 0.0, 50.0))))
    assert mixed.visible[:28].all() and not mixed.visible[32:].any()
    assert (mixed.skip_reason == SkipReason.NONE).all()
    assert assess_visibility(raw(np.zeros(NUM, np.uint8), heads(np.full(NUM, 50.0)))).visible.all()


def test_assess_visibility_unrecognised_profile_is_turned_away() -> None:
    reasons = np.zeros(NUM, np.uint8)
    reasons[20:40] = SkipReason.OTHER_PERSON
    yaw = np.concatenate([np.linspace(0, 70, 20), np.full(20, 70.0), np.linspace(70, 0, 20)])
    skip_reason = assess_visibility(raw(reasons, heads(yaw))).skip_reason
    away = np.flatnonzero(skip_reason == SkipReason.TURNED_AWAY)
    assert set(range(20, 40)) < set(away.tolist())
    assert (np.diff(away) == 1).all()


def test_assess_visibility_weak_or_small_face_is_skipped() -> None:
    half = raw(np.zeros(NUM, np.uint8), heads(np.full(NUM, 34.0)))
    presence = np.where(np.arange(NUM) < 30, 18.0, 4.0).astype(np.float32)
    skip_reason = assess_visibility(half._replace(presence=presence)).skip_reason
    assert skip_reason[:27].max() == SkipReason.NONE
    assert (skip_reason[33:] == SkipReason.TURNED_AWAY).all()
    points = np.concatenate([heads(np.zeros(30)), heads(np.zeros(30), MIN_EYE_DISTANCE - 1)])
    skip_reason = assess_visibility(raw(np.zeros(NUM, np.uint8), points)).skip_reason
    assert skip_reason[:28].max() == SkipReason.NONE
    assert (skip_reason[32:] == SkipReason.TOO_SMALL).all()


def test_assess_visibility_other_person_counts_back_to_a_cut() -> None:
    reasons = np.zeros(NUM, np.uint8)
    reasons[40:] = SkipReason.OTHER_PERSON
    whole = raw(reasons)
    skip_reason = assess_visibility(whole).skip_reason
    assert (skip_reason[40 - CHECK_EVERY : 40] == SkipReason.OTHER_PERSON).all()
    assert skip_reason[: 40 - CHECK_EVERY].max() == SkipReason.NONE
    assert whole.scenes is not None
    whole.scenes[40:] = whole.scenes[0, ::-1]
    judged = assess_visibility(whole)
    assert judged.shot.tolist() == [0] * 40 + [1] * 20
    assert judged.skip_reason[:40].max() == SkipReason.NONE


def test_assess_visibility_without_frames_says_why() -> None:
    with pytest.raises(FaceNotFoundError, match=r"chosen person .* at least 0\.50.* 60 of 60 .* 0\.31"):
        assess_visibility(raw(np.full(NUM, SkipReason.OTHER_PERSON, np.uint8)))
    with pytest.raises(FaceNotFoundError, match="the head turned away in 60 of 60"):
        assess_visibility(raw(np.zeros(NUM, np.uint8), heads(np.full(NUM, 65.0))))


def test_assess_visibility_without_scenes_is_one_shot() -> None:
    present = ~np.isin(np.arange(NUM), range(5, 15))
    judged = assess_visibility(RawLandmarks(heads(np.zeros(NUM)), present))
    assert judged.shot.max() == 0
    assert judged.skip_reason.tolist() == np.where(present, SkipReason.NONE, SkipReason.NO_FACE).tolist()
    reasons = np.zeros(NUM, np.uint8)
    reasons[[0, 1, 39, NUM - 1]] = SkipReason.NO_FACE  # gaps at ends and cuts stay
    cut = raw(reasons)
    assert cut.scenes is not None
    cut.scenes[40:] = cut.scenes[0, ::-1]
    assert np.flatnonzero(assess_visibility(cut).skip_reason).tolist() == [0, 1, 39, NUM - 1]


@pytest.mark.parametrize("reason", [SkipReason.NO_FACE, SkipReason.OTHER_PERSON])
@pytest.mark.parametrize("num_frames", [5, 6])
def test_assess_visibility_short_gaps_are_bridged(reason: SkipReason, num_frames: int) -> None:
    reasons = np.zeros(NUM, np.uint8)
    reasons[30 : 30 + num_frames] = reason
    judged = assess_visibility(raw(reasons), fps=25.0)  # fades of .2 s are five frames
    is_bridged = reason == SkipReason.NO_FACE and num_frames == 5
    assert (judged.skip_reason[30 : 30 + num_frames] == (SkipReason.NONE if is_bridged else reason)).all()
    assert not judged.visible[30 : 30 + num_frames].any()  # nothing is learned from them
    assert judged.visible.sum() == NUM - num_frames - (CHECK_EVERY if reason == SkipReason.OTHER_PERSON else 0)
