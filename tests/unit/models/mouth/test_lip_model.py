import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.errors import WeightsError
from models.geometry.head_frame import INNER_LOWER, INNER_UPPER, MOVED, mean_face
from models.mouth.lip_form import round_lips
from models.mouth.lip_model import LipModel, lip_gaps, meeting_lips, shut_lips
from models.mouth.shape import CHANNELS, DEFAULT_SCALE, NUM_CHANNELS, measure
from training.fit_lip_model import consistent_shape, mirror
from training.fit_skin_motion import SkinMotion, fit_skin

JAW, WIDTH = CHANNELS.index("jaw"), CHANNELS.index("width")
CHEEKS = [MOVED.index(point) for point in (212, 432)]


@pytest.fixture(scope="module")
def model() -> LipModel:
    return LipModel.load()


@pytest.fixture(scope="module")
def rest() -> NDArray[np.float32]:
    return meeting_lips(mean_face().astype(np.float32))


def speech_shapes(num: int) -> NDArray[np.float32]:
    """Open mouths of all kinds that a face can make."""
    shapes = np.random.default_rng(0).normal(0, 1, (num, NUM_CHANNELS)) * DEFAULT_SCALE
    shapes[:, :2] = np.abs(shapes[:, :2]) + 0.03
    return (shapes @ consistent_shape()).astype(np.float32)


def test_deform_zero_shape_is_rest(model: LipModel, rest: NDArray[np.float32]) -> None:
    for face in (rest, model.deform(rest, speech_shapes(1))[0]):
        same = model.deform(face, np.zeros((2, NUM_CHANNELS), np.float32))
        np.testing.assert_allclose(same, np.stack([face, face]), atol=1e-6)


def test_deform_measures_as_the_given_shape(model: LipModel, rest: NDArray[np.float32]) -> None:
    shapes = speech_shapes(200)
    wide_open = rest.copy()
    wide_open[list(INNER_LOWER[1:-1]), 1] -= 0.3  # so that no lips touch
    measured = measure(model.deform(wide_open, shapes)) - measure(wide_open[None])
    assert np.abs((measured - shapes) / DEFAULT_SCALE).max() < 0.01


def test_deform_lips_meet_and_never_cross(model: LipModel, rest: NDArray[np.float32]) -> None:
    shapes = np.outer(np.linspace(-3, 3, 25), DEFAULT_SCALE).astype(np.float32)
    gaps = lip_gaps(model.deform(rest, shapes))
    assert gaps.min() >= -1e-6
    assert gaps[-1].max() > 0.1
    assert gaps[0].max() < 0.02


def test_deform_moves_only_the_lower_face(model: LipModel, rest: NDArray[np.float32]) -> None:
    moved = np.abs(model.deform(rest, speech_shapes(20)) - rest).max((0, 2))
    assert set(np.flatnonzero(moved > 0)) <= set(MOVED)
    jaw_drop = np.zeros((1, NUM_CHANNELS), np.float32)
    jaw_drop[0, JAW] = 0.05
    assert (model.deform(rest, jaw_drop)[0] - rest)[152, 1] == pytest.approx(-0.05, abs=0.01)


def test_lip_model_weights_are_symmetric(model: LipModel) -> None:
    field = np.zeros((NUM_CHANNELS, 468, 3))
    field[:, list(MOVED)] = model.weights
    assert np.abs(mirror(field) - field).max() < 0.02 * np.abs(field).max()


def test_deform_lips_part_up_to_their_corners(model: LipModel, rest: NDArray[np.float32]) -> None:
    gaps = lip_gaps(model.deform(rest, speech_shapes(50)))
    shares = gaps[:, 1:-1].mean(0) / gaps[:, 5].mean()
    assert shares.min() > 0.25 and (np.diff(shares[:5]) > 0).all() and (np.diff(shares[4:]) < 0).all()


def test_lip_model_of_another_size_is_refused() -> None:
    with pytest.raises(WeightsError, match="126"):
        LipModel(np.zeros((8, 3, 3)), np.zeros(8), np.zeros((8, 3, 3)))


def test_skin_motion_cheeks_and_chin_follow_the_lips(model: LipModel) -> None:
    narrow, opened = np.zeros((2, 1, NUM_CHANNELS), np.float32)
    narrow[0, WIDTH] = -0.04
    opened[0] = np.array([0.1, 0.1, 0, 0, 0.1, 0.07, 0, 0]) @ consistent_shape()
    for shape, point, axis, motion in ((narrow, 212, 0, 0.01), (narrow, 432, 0, -0.01), (opened, 200, 1, -0.06)):
        landmark = (shape @ model.weights[:, MOVED.index(point), axis]).item()
        beyond = model.skin_motion(shape)[0, MOVED.index(point), axis]
        assert beyond * motion > 0, point
        assert abs(landmark + beyond) > abs(motion), point
    assert not model.skin_motion(opened)[:, [MOVED.index(point) for point in INNER_LOWER]].any()


def test_shut_lips_touch_along_a_smooth_line(rest: NDArray[np.float32]) -> None:
    dented = rest.copy()
    dented[INNER_UPPER[5], 1] += 0.03  # as around a tooth
    dented[INNER_LOWER[3], 1] -= 0.04
    shut = shut_lips(dented)
    np.testing.assert_allclose(lip_gaps(shut[None]), 0, atol=1e-6)
    line = shut[list(INNER_LOWER), 1]
    assert np.abs(np.diff(line, 2)).max() < 0.012
    others = np.setdiff1d(np.arange(len(rest)), INNER_UPPER + INNER_LOWER)
    np.testing.assert_array_equal(shut[others], dented[others])


def test_change_keeps_the_faces_own_deviation(model: LipModel, rest: NDArray[np.float32]) -> None:
    own = np.random.default_rng(2).normal(0, 0.01, rest.shape).astype(np.float32)
    own[[*INNER_UPPER, *INNER_LOWER]] = 0
    before, after = speech_shapes(2)
    changed = model.change((model.deform(rest, before[None])[0] + own)[None], (after - before)[None])[0]
    outside = np.setdiff1d(np.arange(len(rest)), [*INNER_UPPER, *INNER_LOWER])
    np.testing.assert_allclose(changed[outside], (model.deform(rest, after[None])[0] + own)[outside], atol=1e-5)


def test_meeting_lips_meet_half_way(rest: NDArray[np.float32]) -> None:
    parted = rest.copy()
    upper, lower = list(INNER_UPPER[1:-1]), list(INNER_LOWER[1:-1])
    parted[upper, 1] += 0.02
    parted[lower, 1] -= 0.04
    met = meeting_lips(parted)
    np.testing.assert_allclose(lip_gaps(met[None]), 0, atol=1e-6)
    np.testing.assert_allclose(met[upper, 1], rest[upper, 1] - 0.01, atol=1e-6)


def test_round_lips_touching_lips_are_unchanged() -> None:
    face = mean_face()[None].astype(np.float32)
    crossed = face.copy()
    crossed[:, 13, 1] -= 0.02
    np.testing.assert_array_equal(round_lips(crossed, np.ones(1, np.float32))[:, 13], crossed[:, 13])


def test_fit_skin_jittering_landmarks_find_true_motion() -> None:
    """Cheeks follow by .01 when the mouth becomes narrower by one standard deviation; landmarks do not show it."""
    random, weights = np.random.default_rng(0), LipModel.load().weights.astype(np.float64)
    true_shape = random.normal(0, 1, (4000, NUM_CHANNELS)) * DEFAULT_SCALE
    flow = np.einsum("pc,cmk->pmk", true_shape, weights[..., :2])
    flow[:, CHEEKS, 0] += 0.01 * true_shape[:, [WIDTH]] / DEFAULT_SCALE[WIDTH] * [-1, 1]
    seen = true_shape + random.normal(0, 1, true_shape.shape) * DEFAULT_SCALE
    skin = fit_skin([SkinMotion(seen, flow)], weights)
    np.testing.assert_allclose(skin[WIDTH, CHEEKS, 0] * DEFAULT_SCALE[WIDTH], [-0.01, 0.01], rtol=0.15)
