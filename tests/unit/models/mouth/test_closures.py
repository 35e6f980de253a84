"""Lips close when a voice tells so."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from models.mouth.closures import closed_share, closures_near


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
