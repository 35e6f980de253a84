from fractions import Fraction

import numpy as np
import pytest

from models.geometry.head_frame import MOVED, mean_face
from models.mouth.closures import closed_share, closures_near
from models.mouth.shape import CHANNELS, measure, measure_matrix


def offset(points: list[int], axis: int, step: float) -> dict[str, float]:
    """Channels that change when some points of the mean face move, to five digits."""
    face = mean_face().copy()
    face[points, axis] += step
    change = measure(face[None])[0] - measure(mean_face()[None])[0]
    return {name: round(float(value), 5) for name, value in zip(CHANNELS, change, strict=True) if abs(value) > 1e-5}


def test_measure_channels_follow_their_points() -> None:
    assert offset([87, 14, 317], 1, -0.1) == {"open_in": 0.1, "lower": 0.05}
    assert offset([37, 0, 267], 1, 0.1) == {"open_out": 0.1, "upper": 0.05}
    assert offset([291], 0, 0.1) == {"width": 0.1}
    assert offset([148, 152, 377], 1, -0.1) == {"jaw": 0.1}
    assert offset([61, 291], 1, 0.1) == {"corner_y": 0.1}
    assert offset([0, 17, 13, 14], 2, 0.1) == {"protrude": 0.1}


def test_measure_opening_channels_depend_on_each_other() -> None:
    points = np.random.default_rng(0).normal(size=(50, 468, 3))
    m = dict(zip(CHANNELS, measure(points).T, strict=True))
    assert np.allclose(m["open_in"] + m["open_out"], 2 * (m["upper"] + m["lower"]), atol=1e-5)
    with pytest.raises(ValueError, match="468"):
        measure(np.zeros((468, 3)))


def test_measure_matrix_uses_points_of_the_lip_model() -> None:
    assert set(np.flatnonzero(measure_matrix().any((0, 2)))) <= set(MOVED)


@pytest.mark.parametrize("fps", [15, 24, 25, 30, 60])
def test_closed_share_short_closure_reaches_one_frame(fps: int) -> None:
    seconds = np.arange(2 * fps) / fps
    for start in np.linspace(0.5, 1.0, 40):
        share = closed_share(((start, start + 0.005), (1.5, 1.6)), seconds, Fraction(fps))
        assert share is not None
        assert share[np.abs(seconds - start) < 0.1].max() == 1
        assert (share[(seconds > 1.52) & (seconds < 1.58)] == 1).all()
        assert not share[(seconds < start - 0.12) | (seconds > 1.72)].any()


def test_closures_near_gives_all_that_affect_a_span() -> None:
    closures, seconds = tuple((each / 7, each / 7 + 0.03) for each in range(30)), np.arange(25, 50) / 25
    near = closures_near(closures, 1.0, 2.0)
    assert len(near) < 16
    whole, part = (closed_share(each, seconds, Fraction(25)) for each in (closures, near))
    assert np.array_equal(np.asarray(whole), np.asarray(part))
    assert closed_share((), seconds, Fraction(25)) is None
