from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from lipwright.errors import FaceNotFoundError
from models.avatar.face_region import FaceRegion
from models.geometry.head_frame import CHIN_TIP, LIPS, HeadPose, mean_face
from models.mouth.lip_model import LipModel
from models.mouth.shape import measure
from models.track.face_boxes import face_boxes
from models.track.face_track import FaceTrack, driving_weights, finish_track, mouth_share, patch_share
from models.track.raw_landmarks import RawLandmarks, SkipReason
from models.track.tracker import CHECK_EVERY
from models.track.visibility import MIN_EYE_DISTANCE, assess_visibility
from tests.unit.models.conftest import Filmed
from tests.unit.models.films import mean_faces
from training.fit_lip_model import consistent_shape

SHOWN = np.zeros(40, np.uint8)
ONE_SHOT = np.zeros(40, np.int32)
NUM = 60  # frames
Floats = NDArray[np.float64]


def test_driving_weights_fade_on_both_sides_of_a_gap() -> None:
    skip_reason = SHOWN.copy()
    skip_reason[18:22] = SkipReason.NO_FACE
    weight = driving_weights(skip_reason, ONE_SHOT, 25.0)
    assert (weight[18:22] == 0).all() and (np.diff(weight[12:19]) < 0).all()
    assert (np.diff(weight[21:27]) > 0).all() and weight[:12].min() == weight[28:].min() == 1
    assert (weight == weight[::-1]).all()  # played backwards it fades alike
    facing = np.linspace(1, 0.2, 40, dtype=np.float32)
    assert (driving_weights(skip_reason, ONE_SHOT, 25.0, facing) == np.minimum(weight, facing)).all()
    skip_reason, shot = SHOWN.copy(), ONE_SHOT.copy()
    skip_reason[20:], shot[20:] = SkipReason.OTHER_PERSON, 1
    weight = driving_weights(skip_reason, shot, 25.0)
    assert weight[:20].min() == 1 and weight[20:].max() == 0, "it does not fade at a cut"
    skip_reason[0], skip_reason[1:] = SkipReason.COVERED, SkipReason.NONE
    for fps in (12.5, 25.0, 60.0):
        weight = driving_weights(skip_reason, ONE_SHOT, fps)
        assert np.flatnonzero(weight == 1)[0] / fps == pytest.approx(0.2, abs=1.1 / fps), "equally long at any rate"


def test_mouth_share_ends_before_patch_share() -> None:
    weight = np.linspace(0, 1, 101)
    mouth, patch = mouth_share(weight), patch_share(weight)
    assert (mouth[patch < 0.5] < 0.01).all()
    for share in (mouth, patch):
        assert (share[0], share[-1]) == (0, 1) and (np.diff(share) >= 0).all()


NOISE = 0.4  # pixels
OPEN = np.array([[0.1, 0.12, -0.01, 0.01, 0.1, 0.07, 0.0, -0.01]]) @ consistent_shape()


def talk(num_frames: int, opening: Floats | None = None, fps: float = 25.0) -> tuple[Floats, HeadPose]:
    """(N, 468, 3) image points of the mean face that opens its mouth while the head sways, and the true pose."""
    time = np.arange(num_frames) / fps
    sway = np.stack([0.1 * np.sin(3 * time), 0.2 * np.sin(2 * time), 0.05 * np.cos(time)], 1)
    rotation = Rotation.from_rotvec(sway).as_matrix() @ np.diag([1.0, -1.0, -1.0])
    pose = HeadPose(100 + 5 * np.sin(time), rotation, np.stack([200 + 20 * time, 150 + 0 * time, 0 * time], 1))
    if opening is None:
        opening = np.maximum(np.sin(9 * time), 0)
    head = LipModel.load().deform(mean_face(), opening[:, None] * OPEN)
    return pose.to_image(head), pose


def noisy(points: Floats) -> NDArray[np.float32]:
    return (points + np.random.default_rng(0).normal(0, NOISE, points.shape)).astype(np.float32)


def test_finish_track_finds_pose_and_mouth() -> None:
    points, pose = talk(100)
    track = finish_track(noisy(points), np.ones(100, bool))
    assert np.abs(track.scale / pose.scale - 1).max() < 0.02
    assert np.abs(track.pose_degrees - finish_track(points, np.ones(100, bool)).pose_degrees).max() < 1.0
    assert np.corrcoef(track.shape[:, 0], np.maximum(np.sin(9 * np.arange(100) / 25), 0))[0, 1] > 0.98
    assert np.allclose(track.shape, measure(track.head_points) - measure(track.rest[None]), atol=1e-5)
    assert np.abs(track.rest - mean_face()).mean() < 0.01
    assert not track.is_rest_closed_by_model
    left_over, noise = (np.abs(each[:, UPPER] - points[:, UPPER]).mean() for each in (track.points, noisy(points)))
    assert left_over < 0.75 * noise


def test_finish_track_moving_lips_are_smoothed_less() -> None:
    """A jump of one frame, and a chin that does the same."""
    points, _ = talk(40)
    jumped, moving = points.copy(), [*LIPS, CHIN_TIP]
    jumped[20, moving, 1] += 10
    for lips_move, low, high in ((True, 7, 8), (False, 4.5, 5.5)):
        before, after = (finish_track(each, np.ones(40, bool), lips_move=lips_move) for each in (points, jumped))
        moved = (after.points - before.points)[20, :, 1]
        assert low < moved[list(LIPS)].min()
        assert moved[list(LIPS)].max() < high
        assert 4.5 < moved[CHIN_TIP] < 5.5


UPPER = np.r_[0:10, 60:70, 190:200]


@pytest.mark.parametrize("fps", [50.0, 60.0])
def test_finish_track_smooths_equally_long_at_any_rate(fps: float) -> None:
    points, _ = talk(200, fps=fps)
    tracks = (finish_track(noisy(points), np.ones(200, bool), fps=rate) for rate in (25.0, fps))
    errors = [np.abs(track.points[:, UPPER] - points[:, UPPER]).mean() for track in tracks]
    assert errors[1] < 0.85 * errors[0]
    shot = np.repeat(np.arange(25), 8).astype(np.int32)  # a cut every eighth frame; at 60 fps the window has eleven
    track = finish_track(noisy(points), np.ones(200, bool), shot=shot, fps=fps)
    assert np.abs(track.points - points).mean() < 0.9 * np.abs(noisy(points) - points).mean()


def test_finish_track_gaps_do_not_change_other_frames() -> None:
    points, _ = talk(40)
    present = np.ones(40, bool)
    present[[0, 12, 13, 14, 39]] = False
    spoilt = noisy(points)
    spoilt[~present] = 1e5
    track = finish_track(spoilt, present)
    assert np.array_equal(track.visible, present)
    assert np.abs(track.points[..., :2] - points[..., :2]).max() < 20
    assert np.allclose(track.points[0], track.points[1], atol=2)
    points[20:, :, 0] += 80  # a cut, which is not smoothed
    track = finish_track(points, np.ones(40, bool))
    assert np.abs(track.points[..., :2] - points[..., :2]).max() < 1.5


@pytest.mark.parametrize("num_frames", [1, 2, 4])
def test_finish_track_of_a_few_frames(num_frames: int) -> None:
    with pytest.raises(FaceNotFoundError, match=rf"Searched {num_frames} frames?, .* at least 5 %"):
        finish_track(np.zeros((num_frames, 468, 3), np.float32), np.zeros(num_frames, bool))
    points, _ = talk(num_frames, np.zeros(num_frames))
    track = finish_track(points.astype(np.float32), np.ones(num_frames, bool))
    assert track.num_frames == num_frames
    assert np.allclose(track.points, points, atol=0.05)
    assert not track.is_rest_closed_by_model


@pytest.mark.parametrize("is_wide", [True, False])
def test_finish_track_mouth_that_never_closes_meets_at_rest(is_wide: bool) -> None:
    track = finish_track(talk(10, np.full(10, 1.0 if is_wide else 0.15))[0], np.ones(10, bool))
    assert track.is_rest_closed_by_model == is_wide
    assert measure(track.rest[None])[0, 0] == pytest.approx(0, abs=1e-5)
    if is_wide:
        assert track.shape[:, 0].min() > 0.07
        assert track.rest[CHIN_TIP, 1] > track.head_points[:, CHIN_TIP, 1].max() + 0.02, "the jaw is shut as well"
    else:
        assert track.shape[:, 0] == pytest.approx(0.015, abs=0.006)
    points, _ = talk(12)
    turned = (points * [-1, -1, 1] + [900, 900, 0]).astype(np.float32)
    track = finish_track(turned, np.ones(12, bool))
    assert np.allclose(track.points, turned, atol=1.5)


def test_face_track_load_equals_saved(tmp_path: Path) -> None:
    track = finish_track(noisy(talk(6)[0]), np.ones(6, bool))
    track.save(tmp_path / "track.npz")
    loaded = FaceTrack.load(tmp_path / "track.npz")
    for name in ("points", "visible", "scale", "rotation", "translation", "head_points", "rest", "shape"):
        stored, made = getattr(loaded, name), getattr(track, name)
        assert np.array_equal(stored, made) and stored.dtype == made.dtype
    assert loaded.is_rest_closed_by_model == track.is_rest_closed_by_model


def test_finish_track_real_talker_opens_and_closes(filmed_sample: Filmed) -> None:
    track = finish_track(filmed_sample.raw.points, filmed_sample.raw.present)
    assert track.visible.all() and not track.is_rest_closed_by_model
    assert track.shape[:, 0].std() > 0.03
    model = LipModel.load().deform(track.rest, track.shape)
    lips = [0, 13, 14, 17, 37, 84, 267, 314]
    assert np.abs(model[:, lips, 1] - track.head_points[:, lips, 1]).mean() < 0.01


def test_face_region_covers_rewritten_faces_that_are_not_visible() -> None:
    track = finish_track(talk(20)[0], np.ones(20, bool))
    scale, visible = track.scale.copy(), track.visible.copy()
    scale[10:], visible[10:] = 3 * scale[10:], False
    larger = FaceRegion.of(replace(track, scale=scale, visible=visible)).size
    assert larger > 2.5 * FaceRegion.of(track).size


@pytest.mark.parametrize("aspect", [64 / 45, 0.7])
def test_finish_track_pixel_aspect_keeps_shape_and_pose(aspect: float, tmp_path: Path) -> None:
    points = talk(20)[0]
    squeezed = points / [aspect, 1, 1]
    square, track = (
        finish_track(seen, np.ones(20, bool), pixel_aspect=a) for seen, a in ((points, 1.0), (squeezed, aspect))
    )
    assert np.abs(track.shape - square.shape).max() < 1e-5
    assert np.abs(track.pose_degrees - square.pose_degrees).max() < 1e-3
    assert track.scale == pytest.approx(square.scale)
    assert np.abs(track.points - square.points / [aspect, 1, 1]).max() < 1e-3
    assert FaceRegion.of(track).size >= FaceRegion.of(square).size
    track.save(tmp_path / "track.npz")
    again = FaceTrack.load(tmp_path / "track.npz")
    frames = np.arange(20)
    assert np.abs(again.place(frames, square.head_points) - squeezed[..., :2]).max() < 2


def test_face_boxes_short_turns_count_only_after_a_cut() -> None:
    points, _ = talk(100)
    left = finish_track(points, np.ones(100, bool))
    left = replace(left, shot=(np.arange(100) >= 90).astype(np.int32))
    right = replace(left, points=left.points + np.float32(1000))
    speaker = np.zeros(100, np.int8)
    speaker[[*range(10, 15), *range(30, 60), *range(85, 95)]] = 1
    boxes = face_boxes([left, right], speaker, np.arange(100, dtype=np.int32), is_still=False, min_frames=20)
    shows_right = boxes.low[:, 0] > 900
    assert np.flatnonzero(shows_right).tolist() == [*range(30, 60), *range(90, 100)]
    assert np.flatnonzero(boxes.is_cut).tolist() == [90]
    assert np.flatnonzero(boxes.is_new_face).tolist() == [30, 60, 90]


def raw(reasons: NDArray[np.uint8] | None = None, yaw: ArrayLike = 0.0, eyes: ArrayLike = 80.0) -> RawLandmarks:
    """What was tracked of a head in one scene, which is always the person of likeness .31."""
    reasons = np.zeros(NUM, np.uint8) if reasons is None else reasons
    scenes = np.tile((np.arange(864) % 200).astype(np.uint8), (NUM, 1))
    points = mean_faces(200, np.full(NUM, 150), eyes, yaw)
    return RawLandmarks(points, reasons == SkipReason.NONE, reasons, scenes, None, np.full(NUM, 0.31, np.float32))


def reasons(reason: SkipReason, frames: range | list[int]) -> NDArray[np.uint8]:
    found = np.zeros(NUM, np.uint8)
    found[frames] = reason
    return found


def test_assess_visibility_fades_while_the_head_turns() -> None:
    yaw = np.concatenate([np.linspace(0, 70, 40), np.full(20, 70.0)])
    judged = assess_visibility(raw(yaw=yaw))
    assert (judged.facing[yaw < 52] == 1).all() and (judged.facing[yaw > 62] == 0).all()
    fading = judged.facing[(yaw > 55) & (yaw < 59)]
    assert (fading > 0).all() and (fading < 1).all()
    assert (np.diff(judged.facing) <= 0).all()
    assert ((judged.skip_reason == SkipReason.TURNED_AWAY) == (judged.facing == 0)).all()
    mixed = assess_visibility(raw(yaw=np.where(np.arange(NUM) < 30, 0.0, 50.0)))
    assert mixed.visible[:28].all() and not mixed.visible[32:].any()
    assert (mixed.skip_reason == SkipReason.NONE).all()
    assert assess_visibility(raw(yaw=50.0)).visible.all()


def test_assess_visibility_unrecognised_profile_is_turned_away() -> None:
    yaw = np.concatenate([np.linspace(0, 70, 20), np.full(20, 70.0), np.linspace(70, 0, 20)])
    skip_reason = assess_visibility(raw(reasons(SkipReason.OTHER_PERSON, range(20, 40)), yaw)).skip_reason
    away = np.flatnonzero(skip_reason == SkipReason.TURNED_AWAY)
    assert set(range(20, 40)) < set(away.tolist()) and (np.diff(away) == 1).all()


def test_assess_visibility_weak_or_small_face_is_skipped() -> None:
    presence = np.where(np.arange(NUM) < 30, 18.0, 4.0).astype(np.float32)
    weak, small = raw(yaw=34.0)._replace(presence=presence), raw(eyes=np.repeat([80.0, MIN_EYE_DISTANCE - 1], 30))
    for tracked, reason in ((weak, SkipReason.TURNED_AWAY), (small, SkipReason.TOO_SMALL)):
        skip_reason = assess_visibility(tracked).skip_reason
        assert skip_reason[:27].max() == SkipReason.NONE
        assert (skip_reason[33:] == reason).all()


def test_assess_visibility_other_person_counts_back_to_a_cut() -> None:
    whole = raw(reasons(SkipReason.OTHER_PERSON, range(40, NUM)))
    skip_reason = assess_visibility(whole).skip_reason
    assert (skip_reason[40 - CHECK_EVERY : 40] == SkipReason.OTHER_PERSON).all()
    assert skip_reason[: 40 - CHECK_EVERY].max() == SkipReason.NONE
    assert whole.scenes is not None and whole.reasons is not None
    whole.scenes[40:] = whole.scenes[0, ::-1]
    for _ in range(2):
        judged = assess_visibility(whole)
        assert judged.shot.tolist() == [0] * 40 + [1] * 20
        assert judged.skip_reason[:40].max() == SkipReason.NONE
        assert (judged.skip_reason[40:] == SkipReason.OTHER_PERSON).all()
        whole.reasons[40:42] = SkipReason.NONE  # found by the first check after the cut


def test_assess_visibility_without_frames_says_why() -> None:
    with pytest.raises(FaceNotFoundError, match=r"chosen person .* at least 0\.50.* 60 of 60 .* 0\.31"):
        assess_visibility(raw(reasons(SkipReason.OTHER_PERSON, range(NUM))))
    with pytest.raises(FaceNotFoundError, match="the head turned away in 60 of 60"):
        assess_visibility(raw(yaw=65.0))


def test_assess_visibility_without_scenes_is_one_shot() -> None:
    present = ~np.isin(np.arange(NUM), range(5, 15))
    judged = assess_visibility(RawLandmarks(raw().points, present))
    assert judged.shot.max() == 0
    assert judged.skip_reason.tolist() == np.where(present, SkipReason.NONE, SkipReason.NO_FACE).tolist()


@pytest.mark.parametrize("reason", [SkipReason.NO_FACE, SkipReason.OTHER_PERSON])
@pytest.mark.parametrize("num_frames", [5, 6])
def test_assess_visibility_short_gaps_are_bridged(reason: SkipReason, num_frames: int) -> None:
    gap = range(30, 30 + num_frames)
    judged = assess_visibility(raw(reasons(reason, gap)), fps=25.0)  # fades of .2 s are five frames
    is_bridged = reason == SkipReason.NO_FACE and num_frames == 5
    assert (judged.skip_reason[gap] == (SkipReason.NONE if is_bridged else reason)).all()
    assert not judged.visible[gap].any()  # nothing is learned from them
    assert judged.visible.sum() == NUM - num_frames - (CHECK_EVERY if reason == SkipReason.OTHER_PERSON else 0)
    at_ends_and_cuts = [0, 1, 39, NUM - 1]
    cut = raw(reasons(SkipReason.NO_FACE, at_ends_and_cuts))
    assert cut.scenes is not None
    cut.scenes[40:] = cut.scenes[0, ::-1]
    assert np.flatnonzero(assess_visibility(cut).skip_reason).tolist() == at_ends_and_cuts
