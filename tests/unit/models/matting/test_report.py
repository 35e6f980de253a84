"""When a matte is uncertain."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from models.matting.report import certainty, uncertain_ranges


def test_uncertain_ranges_are_joined_and_long_enough() -> None:
    shares = np.tile(np.array([0.3, 0.01], np.float32), (200, 1))
    shares[50:70, 1] = 0.08  # more than 12 % of .3
    shares[75:80, 1] = 0.08  # goes on after a short gap
    shares[120:122, 1] = 0.2  # too short
    shares[150:180, 0] = 0.0  # nobody
    ranges = uncertain_ranges(shares, Fraction(25))
    assert [(each.start, each.end, each.has_person) for each in ranges] == [(2.0, 3.2, True), (6.0, 7.2, False)]
    for share, is_uncertain in ((0.1, True), (0.01, False)):  # a still
        assert bool(uncertain_ranges(np.array([[0.3, share]], np.float32), Fraction(25))) == is_uncertain


def test_certainty_is_the_share_of_clear_pixels() -> None:
    coarse = np.array([[0.0, 0.1, 0.5, 0.74], [0.9, 1.0, 1.0, 0.3]], np.float32)
    assert certainty(coarse) == (5 / 8, 3 / 8)
