"""What the plan makes of mouth shapes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.exemplars import ExemplarBank
from models.engines.warp.painting.fields import CONTROL_IDS
from models.engines.warp.plan import MouthPlan, plan_ahead, plan_block, plan_in_shots, plan_mouth
from models.geometry.head_frame import INNER_LOWER, INNER_UPPER, LIPS, OUTER_UPPER
from models.mouth.closures import closed_share
from models.mouth.shape import CHANNELS
from models.speech.speech_to_mouth import MouthBlock
from models.track.raw_landmarks import RawLandmarks
from tests.unit.models.engines.warp.conftest import Build
from tests.unit.models.synthetic_avatar import NUM_FRAMES, mouth_shapes

Head = NDArray[np.float32]  # (T, C, 3) control points
_UPPER, _LOWER = (CONTROL_IDS.index(lip[5]) for lip in (INNER_UPPER, INNER_LOWER))
_INDEX = np.arange(NUM_FRAMES, dtype=np.int32)


@pytest.fixture(scope="module")
def bank(talker: WarpAvatar) -> ExemplarBank:
    assert talker.bank is not None
    return talker.bank


def _target(avatar: WarpAvatar, shape: NDArray[np.float32], index: NDArray[np.int32], **options: Any) -> Head:
    """The lips that are planned for these shapes in these source frames."""
    return plan_mouth(avatar, shape, index, None, **options)[0].target_head


def _gaps(head: Head) -> NDArray[np.float32]:
    """(T,) between the middles of the inner lips, eye distances."""
    return np.asarray(head[:, _UPPER, 1] - head[:, _LOWER, 1])


def test_plan_mouth_parting_lips_cover_part_of_opening(silent: WarpAvatar) -> None:
    shape = mouth_shapes(NUM_FRAMES, 0.1)
    plan, _ = plan_mouth(silent, shape, _INDEX, None)
    asked = _gaps(silent.lip_model.deform(silent.track.rest, shape)[:, list(CONTROL_IDS)])
    is_open = shape[:, 0] > 0.5 * shape[:, 0].max()
    share = _gaps(plan.target_head)[is_open] / asked[is_open]
    assert 0.7 < share.min() < share.max() < 0.93
    assert plan.interior[is_open].min() == 1


@pytest.mark.parametrize("is_talking", [False, True])
def test_plan_mouth_very_wide_opening_is_limited(is_talking: bool, build: Build) -> None:
    avatar = build(0.05 * is_talking)[1]
    assert avatar.talks == is_talking
    shape = mouth_shapes(NUM_FRAMES, 0.6)
    gaps = [_gaps(_target(avatar, size * shape, _INDEX)).max() for size in (0.3, 0.7, 1.0)]
    assert 0.13 < gaps[0] < gaps[1] < gaps[2] + 0.01 < 0.36


def test_plan_mouth_parting_lips_part_up_to_corners(silent: WarpAvatar) -> None:
    shape = mouth_shapes(NUM_FRAMES, 0.1)
    plan, _ = plan_mouth(silent, shape, _INDEX, None)
    left, right = CONTROL_IDS.index(61), CONTROL_IDS.index(291)
    asked = silent.lip_model.deform(silent.track.rest, shape)[:, list(CONTROL_IDS)]
    wider = np.diff(plan.target_head[:, [left, right], 0] - asked[:, [left, right], 0])[:, 0]
    is_open = shape[:, 0] > 0.09
    assert (wider[is_open] > 0.008).all()
    higher = (plan.target_head - asked)[is_open][:, [left, right], 1]
    assert (higher > 0.015).all()  # corners that follow the jaw all the way would sink by .02


@pytest.fixture(scope="module")
def smile(build: Build, tmp_path_factory: pytest.TempPathFactory) -> tuple[WarpAvatar, int]:
    """A source whose one visible frame shows an open mouth, and that frame."""
    talker, frame = build(0.14)[0], int(mouth_shapes(NUM_FRAMES, 0.14)[:, 0].argmax())
    raw = RawLandmarks(talker.raw.points, np.arange(NUM_FRAMES) == frame)
    return replace(talker, raw=raw).build(tmp_path_factory.mktemp("smile")), frame


def test_plan_mouth_closing_smile_keeps_gap_form(smile: tuple[WarpAvatar, int]) -> None:
    avatar, frame = smile
    own = avatar.track.shape[frame]
    shape = own * np.array([[1], [0.5], [0]], np.float32)
    target = _target(avatar, shape, np.full(3, frame, np.int32))
    upper, lower = ([CONTROL_IDS.index(point) for point in lip[1:-1]] for lip in (INNER_UPPER, INNER_LOWER))
    gaps = target[:, upper, 1] - target[:, lower, 1]
    np.testing.assert_allclose(target[0], avatar.control_points(np.array([frame]))[0], atol=1e-5)
    np.testing.assert_allclose(gaps[1] / gaps[0], 0.5, atol=0.02)
    assert np.abs(gaps[2]).max() < 1e-3


def test_plan_mouth_smile_opens_less_than_closed_lips(smile: tuple[WarpAvatar, int]) -> None:
    avatar, frame = smile
    own = float(avatar.track.shape[frame, 0])
    shape = np.array([avatar.track.shape[frame]] * 2)
    shape[1] += mouth_shapes(NUM_FRAMES, 0.04).max(0)
    gaps = _gaps(_target(avatar, shape, np.full(2, frame, np.int32)))
    assert np.diff(gaps) == pytest.approx(0.5 * (shape[1, 0] - own), rel=0.15)


def test_plan_block_rounding_is_0_for_spread_lips(silent: WarpAvatar) -> None:
    shape = np.zeros((3, len(CHANNELS)), np.float32)
    shape[:, CHANNELS.index("width")] = 0.03, 0, -0.03
    mouth = MouthBlock(shape, np.ones(3, np.float32))
    plan, _ = plan_block(silent, mouth, np.arange(3, dtype=np.int32), 0, None)
    assert plan.rounding.tolist() == [0, 0, pytest.approx(1)]


def test_plan_mouth_rounded_lips_part_only_in_middle(silent: WarpAvatar) -> None:
    shape = np.repeat(mouth_shapes(NUM_FRAMES, 0.05).max(0)[None], 2, 0)
    narrow = shape.copy()
    narrow[1, CHANNELS.index("width")] -= 0.06
    index = np.zeros(2, np.int32)
    upper, lower = ([CONTROL_IDS.index(point) for point in lip] for lip in (INNER_UPPER, INNER_LOWER))
    plan, _ = plan_mouth(silent, shape, index, None, spoken=narrow)
    usual, rounded = plan.target_head[:, upper, 1] - plan.target_head[:, lower, 1]
    np.testing.assert_allclose(rounded[4:7], usual[4:7], atol=1e-6)
    assert (rounded[[1, 9]] < 0.1 * usual[[1, 9]]).all()


def test_plan_mouth_cheeks_follow_the_corners(silent: WarpAvatar) -> None:
    shape = np.zeros((2, len(CHANNELS)), np.float32)
    shape[1, CHANNELS.index("width")] = -0.04
    target = _target(silent, shape, np.zeros(2, np.int32))
    inwards = target[1, :, 0] - target[0, :, 0]
    for corner, cheek in ((61, 212), (291, 432)):
        share = inwards[CONTROL_IDS.index(cheek)] / inwards[CONTROL_IDS.index(corner)]
        assert 0.4 < share < 1.0, "the landmarks alone follow by less than .2"


def _crooked(avatar: WarpAvatar, shift: NDArray[np.float32]) -> WarpAvatar:
    """The avatar with lips that stand (N,) eye distances to one side, which no channel measures."""
    head = avatar.track.head_points.copy()
    head[:, list(LIPS), 0] += shift[:, None]
    return replace(avatar, track=replace(avatar.track, head_points=head))


def test_plan_mouth_fitting_exemplar_is_unchanged(talker: WarpAvatar, bank: ExemplarBank) -> None:
    """No lips of an average talker are drawn over its own: those are where its picture has them."""
    avatar, index = _crooked(talker, np.full(NUM_FRAMES, 0.03, np.float32)), bank.frames[6:16]
    plan, _ = plan_mouth(avatar, bank.shape[6:16], index, None)
    assert (plan.exemplar == np.arange(6, 16)).all()
    own = avatar.control_points(index)
    np.testing.assert_allclose(plan.target_head, own, rtol=0, atol=4e-3)  # lips may cross by that


def test_plan_mouth_fading_exemplars_blend_lips(talker: WarpAvatar, bank: ExemplarBank) -> None:
    rows = np.r_[5:15, 24:34]
    avatar = _crooked(talker, np.where(np.arange(NUM_FRAMES) < bank.frames[20], 0, 0.04).astype(np.float32))
    plan, _ = plan_mouth(avatar, bank.shape[rows], bank.frames[rows], None)
    jumps = np.flatnonzero(np.diff(plan.exemplar) != 1)
    assert len(jumps) and (plan.fade >= 0).any()
    beside = plan.target_head[:, CONTROL_IDS.index(OUTER_UPPER[5]), 0]
    straight_plan, _ = plan_mouth(talker, bank.shape[rows], bank.frames[rows], None)
    beside = beside - straight_plan.target_head[:, CONTROL_IDS.index(OUTER_UPPER[5]), 0]
    assert np.ptp(beside) > 0.03
    assert np.abs(np.diff(beside)).max() < 0.02


def test_plan_mouth_too_open_exemplar_closes_to_shape(talker: WarpAvatar, bank: ExemplarBank) -> None:
    widest = int(bank.shape[:, 0].argmax())
    only = np.ones((1, len(bank)), np.bool_)
    only[0, widest] = False
    gaps = {}
    for share in (1.0, 0.6, 0.0):
        shape, index = bank.shape[[widest]] * share, bank.frames[[widest]]
        gaps[share] = float(_gaps(_target(talker, shape, index, forbidden=only))[0])
    assert gaps[1.0] > 0.05
    assert gaps[0.6] == pytest.approx(0.6 * gaps[1.0], rel=0.02)
    assert gaps[0.0] == pytest.approx(0, abs=1e-4)


def test_plan_mouth_does_not_thicken_lips(talker: WarpAvatar, bank: ExemplarBank) -> None:
    seen, index = bank.shape[6:7], bank.frames[6:7]
    higher = seen.copy()
    higher[:, CHANNELS.index("upper")] += 0.02
    higher[:, CHANNELS.index("open_out")] += 0.04  # with the same gap
    only = np.arange(len(bank))[None] != 6
    outer = [
        _target(talker, shape, index, forbidden=only)[0, CONTROL_IDS.index(OUTER_UPPER[5]), 1]
        for shape in (seen, higher)
    ]
    asked = [talker.lip_model.deform(talker.track.rest, shape)[0, OUTER_UPPER[5], 1] for shape in (seen, higher)]
    assert 0 < outer[1] - outer[0] < 1.3 * (asked[1] - asked[0])


def test_plan_mouth_far_from_exemplar_keeps_lip_form(talker: WarpAvatar, bank: ExemplarBank) -> None:
    shape, index = bank.shape[6:7].copy(), bank.frames[6:7]
    only = np.arange(len(bank))[None] != 6
    own = _target(talker, shape, index, forbidden=only)
    shape[:, [CHANNELS.index(name) for name in ("width", "upper", "lower")]] += 0.2, 0.15, -0.15
    far = _target(talker, shape, index, forbidden=only)
    left, right, top = (CONTROL_IDS.index(point) for point in (61, 291, OUTER_UPPER[5]))
    assert 0.05 < (far - own)[0, right, 0] - (far - own)[0, left, 0] < 0.12
    assert 0.02 < (far - own)[0, top, 1] < 0.09
    np.testing.assert_allclose(_gaps(far), _gaps(own), atol=0.01)


def test_plan_mouth_open_exemplar_opens_little_further(talker: WarpAvatar, bank: ExemplarBank) -> None:
    wide = bank.shape[:, 0].argmax()
    shape, index = np.tile(bank.shape[wide], (2, 1)), np.repeat(bank.frames[wide], 2)
    shape[1] += mouth_shapes(NUM_FRAMES, 0.1).max(0)
    only = np.tile(np.arange(len(bank)) != wide, (2, 1))
    gaps = _gaps(_target(talker, shape, index, forbidden=only))
    assert 0.01 < np.diff(gaps) < 0.05


def test_plan_mouth_lips_never_seen_closed_are_closed(talker: WarpAvatar, bank: ExemplarBank) -> None:
    forbidden = (bank.shape[:, 0] < 0.06)[None]
    avatar = replace(talker, bank=replace(bank, gap=np.where(forbidden[0], np.float32(1), bank.gap)))
    plan, _ = plan_mouth(avatar, np.zeros((1, 8), np.float32), np.zeros(1, np.int32), None, hold=np.ones(1, np.float32))
    assert bank.shape[plan.exemplar[0], 0] >= 0.06
    assert _gaps(plan.target_head)[0] == pytest.approx(0, abs=1e-4)
    assert plan.own_teeth[0] == 1


def test_plan_mouth_open_exemplar_keeps_own_interior(talker: WarpAvatar, bank: ExemplarBank) -> None:
    shape = mouth_shapes(NUM_FRAMES, 0.3)  # wider than the talker ever opens
    plan, _ = plan_mouth(talker, shape, _INDEX, None)
    shown = bank.shape[plan.exemplar, 0]
    assert (shape[:, 0] - shown).max() > 0.1
    assert (plan.interior[shown > 0.05] == 0).all()
    assert (plan.own_teeth == 0).all()


def _turned(avatar: WarpAvatar, degrees: NDArray[np.float64]) -> WarpAvatar:
    """The avatar with (N,) another yaw in each frame."""
    turn = Rotation.from_euler("Y", degrees[:, None], degrees=True).as_matrix()
    return replace(avatar, track=replace(avatar.track, rotation=turn @ np.diag([1.0, -1.0, -1.0])))


def test_plan_in_shots_turned_head_uses_own_lips(talker: WarpAvatar) -> None:
    talker = _turned(talker, np.where(np.arange(NUM_FRAMES) < NUM_FRAMES // 2, 39.0, 46.0))
    frames, shape = _INDEX, mouth_shapes(NUM_FRAMES, 0.07)
    plan, _ = plan_in_shots(talker, shape, frames, None)
    assert (plan.exemplar[: NUM_FRAMES // 2] >= 0).all()
    assert (plan.exemplar[NUM_FRAMES // 2 :] == -1).all()
    assert plan.own_teeth.max() == 0
    assert _gaps(plan.target_head)[NUM_FRAMES // 2 :].std() > 0.01  # they speak


def test_plan_in_shots_head_at_turn_limit_does_not_flicker(talker: WarpAvatar) -> None:
    time, half = np.arange(NUM_FRAMES), NUM_FRAMES // 2
    at_limit = 43 + np.where(time % 2, 1.0, -1.0)
    for sign in (1, -1):
        is_turned = _turned(talker, sign * np.where(time < half, 30.0, at_limit)).is_turned
        assert is_turned.tolist() == (time >= half).tolist()
    assert not _turned(talker, np.full(NUM_FRAMES, 42.0)).is_turned.any()
    later = _turned(talker, np.where(time < half, 46.0, 42.0))
    later = replace(later, track=replace(later.track, shot=(time >= half).astype(np.int32)))
    assert later.is_turned.tolist() == (time < half).tolist()  # another shot has its own


NUM, AHEAD = 3, 4


@pytest.fixture(params=[0.14, 0.0], ids=["talker", "silent"])
def warp_avatar(request: pytest.FixtureRequest, build: Build) -> WarpAvatar:
    return build(request.param)[1]


def _mouth(num_frames: int) -> MouthBlock:
    shape = np.roll(mouth_shapes(num_frames, 0.1), 2, axis=0)
    gate = np.ones(num_frames, np.float32)
    gate[-8:] = 0
    return MouthBlock(shape * gate[:, None], gate)


def test_plan_block_closes_lips_at_known_times(warp_avatar: WarpAvatar) -> None:
    num = NUM_FRAMES
    shape = np.repeat(mouth_shapes(num, 0.1).max(0, keepdims=True), num, 0)
    mouth, index = MouthBlock(shape, np.ones(num, np.float32)), np.arange(num, dtype=np.int32)
    closed = closed_share(((0.4, 0.5),), index / 25, Fraction(25))
    gaps = [
        _gaps(plan_block(warp_avatar, replace(mouth, closed=each), index, 0, None)[0].target_head)
        for each in (None, closed)
    ]
    assert gaps[0][10:13].min() > 0.05 and np.abs(gaps[1][10:13]).max() < 0.02
    assert np.abs(gaps[1] - gaps[0])[16:].max() < 0.03, "other frames may show another exemplar"


def _piece(mouth: MouthBlock, start: int, stop: int) -> MouthBlock:
    return MouthBlock(mouth.shape[start:stop], mouth.gate[start:stop])


def _live(warp_avatar: WarpAvatar, mouth: MouthBlock, index: np.ndarray) -> list[MouthPlan]:
    parts, state = [], None
    for start in range(0, len(index) - AHEAD, NUM):
        stop = start + NUM + AHEAD
        part, state = plan_ahead(warp_avatar, _piece(mouth, start, stop), index[start:stop], start, state, NUM)
        parts.append(part)
    return parts


def test_plan_live_in_chunks_is_close_to_plan_of_whole(warp_avatar: WarpAvatar) -> None:
    num = (NUM_FRAMES - AHEAD) // NUM * NUM
    index, mouth = np.arange(num + AHEAD, dtype=np.int32), _mouth(num + AHEAD)
    whole, _ = plan_block(warp_avatar, mouth, index, 0, None)
    parts = _live(warp_avatar, mouth, index)
    assert [part.first_frame for part in parts] == list(range(0, num, NUM))
    assert {len(part) for part in parts} == {NUM}
    head = np.concatenate([part.target_head for part in parts])
    assert np.abs(head - whole.target_head[:num]).max() < 0.05, "eye distances"
    assert np.array_equal(np.concatenate([part.hold for part in parts]), whole.hold[:num])
    if warp_avatar.bank is not None:
        rows = np.concatenate([part.exemplar for part in parts])
        jumps = [int((np.diff(each) != 1).sum()) for each in (rows, whole.exemplar[:num])]
        assert jumps[0] <= 1.5 * jumps[1] + 2
