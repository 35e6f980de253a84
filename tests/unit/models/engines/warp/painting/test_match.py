"""How pasted mouths are brought to the look of the frame."""

from __future__ import annotations

import numpy as np

from models.engines.warp.painting.match import sharpening


def test_a_frames_own_lips_are_sharpened_more_than_an_exemplar() -> None:
    own, other = sharpening(np.array([3, 5]), np.array([3, 4]))
    assert own > other > 0
