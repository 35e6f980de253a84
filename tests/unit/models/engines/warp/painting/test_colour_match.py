"""How pasted mouths are brought to the look of the frame."""

from __future__ import annotations

import numpy as np

from models.engines.warp.painting.colour_match import blur_matrices, sharpening


def test_sharpening_own_lips_exceeds_exemplar() -> None:
    own, other = sharpening(np.array([3, 5]), np.array([3, 4]))
    assert own > other > 0


def test_colour_match_blurs_have_no_denormals() -> None:
    blurs = blur_matrices()
    smallest = blurs[blurs > 0].min()
    assert smallest**2 / 255 > np.finfo(np.float32).tiny
