"""Narrowed lips are rounded, and rounded lips meet beside the middle."""

from __future__ import annotations

import numpy as np
import pytest

from models.geometry.head_frame import mean_face
from models.mouth.lip_form import round_lips, rounding
from models.mouth.lip_model import LipModel, lip_gaps
from models.mouth.shape import measure

# Means of the corpus in thousandths, as in `training.mouth_table`.
_SPOKEN = {
    "i": (82, 78, 0, 14, 68, 54, 2, -22),
    "u": (30, 58, -60, -12, 58, 46, -6, -28),
    "w": (25, 52, -60, -14, 54, 48, -7, -30),
    "rest": (0,) * 8,
}


def _shape(*phones: str) -> np.ndarray:
    return np.array([_SPOKEN[phone] for phone in phones], np.float32) / 1000


def test_rounding_of_vowels() -> None:
    u, w, i, rest = rounding(_shape("u", "w", "i", "rest"))
    assert u == w == 1
    assert i == rest == 0


@pytest.mark.parametrize("amount", [0.0, 0.5, 1.0])
def test_round_lips_keeps_the_middle_gap(amount: float) -> None:
    face = LipModel.load().deform(mean_face(), _shape("u"))
    round_face = round_lips(face, np.array([amount], np.float32))
    left = lip_gaps(round_face)[0, 1:-1] / lip_gaps(face)[0, 1:-1]
    np.testing.assert_allclose(left[3:6], 1, atol=1e-4)
    np.testing.assert_allclose(left[[0, -1]], 1 - amount, atol=1e-4)
    assert (np.diff(left[:5]) >= -1e-4).all()
    assert measure(round_face)[0, 0] == pytest.approx(measure(face)[0, 0], abs=1e-4)


def test_round_lips_touching_lips_are_unchanged() -> None:
    face = mean_face()[None].astype(np.float32)
    crossed = face.copy()
    crossed[:, 13, 1] -= 0.02
    np.testing.assert_array_equal(round_lips(crossed, np.ones(1, np.float32))[:, 13], crossed[:, 13])
