from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from errors import WeightsError
from models.geometry.face_points import INNER_LOWER, INNER_UPPER, MOVED
from models.geometry.head_frame import mean_face
from models.mouth.lip_model import LipModel, lip_gaps, part_lips, set_gaps, shut_lips, true_gaps
from models.mouth.shape import CHANNELS, DEFAULT_SCALE, NUM_CHANNELS, TRACKED_GAIN, measure
from models.training.fit_lip_model import consistent_shape, mirror

JAW, OPEN_IN = CHANNELS.index("jaw"), CHANNELS.index("open_in")


@pytest.fixture(scope="module")
def model() -> LipModel:
    return LipModel.load()


@pytest.fixture(scope="module")
def rest() -> NDArray[np.float32]:
    face = mean_face().astype(np.float32)
    part_lips(face[None])
    return face


def speech_shapes(num: int) -> NDArray[np.float32]:
    """Open mouths of all kinds that a face can make."""
    shapes = np.random.default_rng(0).normal(0, 1, (num, NUM_CHANNELS)) * DEFAULT_SCALE
    shapes[:, :2] = np.abs(shapes[:, :2]) + 0.03
    return (shapes @ consistent_shape()).astype(np.float32)


def test_zero_shape_is_exactly_rest(model: LipModel, rest: NDArray[np.float32]) -> None:
    crossed = rest.copy()
    crossed[13, 1] -= 0.05
    for face in (rest, crossed):
        assert np.array_equal(model.deform(face, np.zeros((2, NUM_CHANNELS), np.float32)), np.stack([face, face]))


def test_what_is_made_measures_as_what_was_asked_for(model: LipModel, rest: NDArray[np.float32]) -> None:
    shapes = speech_shapes(200)
    wide_open = rest.copy()
    wide_open[list(INNER_LOWER[1:-1]), 1] -= 0.3  # so that no lips touch
    measured = measure(model.deform(wide_open, shapes)) - measure(wide_open[None])
    assert np.abs((measured - shapes) / DEFAULT_SCALE).max() < 0.01


def test_lips_meet_and_never_cross(model: LipModel, rest: NDArray[np.float32]) -> None:
    shapes = np.outer(np.linspace(-3, 3, 25), DEFAULT_SCALE).astype(np.float32)
    gaps = lip_gaps(model.deform(rest, shapes))
    assert gaps.min() >= -1e-6
    assert gaps[-1].max() > 0.1
    assert gaps[0].max() < 0.02


def test_only_the_lower_face_moves(model: LipModel, rest: NDArray[np.float32]) -> None:
    moved = np.abs(model.deform(rest, speech_shapes(20)) - rest).max((0, 2))
    assert set(np.flatnonzero(moved > 0)) <= set(MOVED)
    jaw_drop = np.zeros((1, NUM_CHANNELS), np.float32)
    jaw_drop[0, JAW] = 0.05
    assert (model.deform(rest, jaw_drop)[0] - rest)[152, 1] == pytest.approx(-0.05, abs=0.01)


def test_both_halves_of_the_face_move_alike(model: LipModel) -> None:
    field = np.zeros((NUM_CHANNELS, 468, 3))
    field[:, list(MOVED)] = model.weights
    assert np.abs(mirror(field) - field).max() < 0.02 * np.abs(field).max()


def test_an_open_mouth_is_closed(model: LipModel, rest: NDArray[np.float32]) -> None:
    open_shape = (np.array([[0.15, 0.17, 0, 0.02, 0.14, 0.1, 0, 0]]) @ consistent_shape()).astype(np.float32)
    opened = model.deform(rest, open_shape)[0]
    closed = model.close(opened)
    assert measure(opened[None])[0, OPEN_IN] > 0.1
    assert measure(closed[None])[0, OPEN_IN] < model.closed_open_in + 0.01
    assert lip_gaps(closed[None]).min() >= -1e-6
    assert opened[152, 1] < closed[152, 1]
    assert np.array_equal(model.close(closed)[list(INNER_UPPER)], closed[list(INNER_UPPER)])


def test_a_model_of_another_size_is_refused() -> None:
    with pytest.raises(WeightsError, match="126"):
        LipModel(np.zeros((8, 3, 3)), np.zeros(8), 0.0)


def test_shut_lips_touch_along_a_smooth_line(rest: NDArray[np.float32]) -> None:
    dented = rest.copy()
    dented[INNER_UPPER[5], 1] += 0.03  # as around a tooth
    dented[INNER_LOWER[3], 1] -= 0.04
    shut = shut_lips(dented)
    assert np.abs(lip_gaps(shut[None])).max() < 2e-3
    line = shut[list(INNER_LOWER), 1]
    assert np.abs(np.diff(line, 2)).max() < 0.012
    others = np.setdiff1d(np.arange(len(rest)), INNER_UPPER + INNER_LOWER)
    np.testing.assert_array_equal(shut[others], dented[others])


def test_lips_are_set_as_far_apart_as_asked_and_never_cross(rest: NDArray[np.float32]) -> None:
    points = np.repeat(rest[None], 3, 0)
    asked = np.array([0.12, 0.03, -0.05], np.float32)
    set_gaps(points, asked)
    gaps = lip_gaps(points)
    assert gaps[:2, 4:7].mean(1) == pytest.approx(asked[:2], abs=1e-3)
    assert gaps.min() >= -1e-6
    assert (np.diff(gaps[0, :5]) > 0).all() and (np.diff(gaps[0, 6:]) < 0).all()  # they taper to the corners
    assert points[:, [0, 17, 61, 291, 152]] == pytest.approx(np.repeat(rest[None, [0, 17, 61, 291, 152]], 3, 0))


def test_the_gap_of_a_tracked_shape_is_of_true_size(rest: NDArray[np.float32]) -> None:
    shape = np.zeros((2, NUM_CHANNELS), np.float32)
    shape[:, 0] = 0.1 * TRACKED_GAIN[0], -0.02
    closed = lip_gaps(rest[None])[0, 4:7].mean()
    assert true_gaps(rest, shape) == pytest.approx([closed + 0.1, closed], abs=1e-6)
