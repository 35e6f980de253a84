from __future__ import annotations

import numpy as np

from models.geometry.head_frame import MOVED
from models.mouth.lip_model import LipModel
from models.mouth.shape import CHANNELS, DEFAULT_SCALE, NUM_CHANNELS
from training.fit_skin_motion import SkinMotion, fit_skin

CHEEKS = [MOVED.index(point) for point in (212, 432)]


def test_fit_skin_jittering_landmarks_find_true_motion() -> None:
    """Cheeks follow by .01 when the mouth becomes narrower by one standard deviation; landmarks do not show it."""
    random, weights = np.random.default_rng(0), LipModel.load().weights.astype(np.float64)
    true_shape = random.normal(0, 1, (4000, NUM_CHANNELS)) * DEFAULT_SCALE
    flow = np.einsum("pc,cmk->pmk", true_shape, weights[..., :2])
    width = CHANNELS.index("width")
    flow[:, CHEEKS, 0] += 0.01 * true_shape[:, [width]] / DEFAULT_SCALE[width] * [-1, 1]
    seen = true_shape + random.normal(0, 1, true_shape.shape) * DEFAULT_SCALE
    skin = fit_skin([SkinMotion(seen, flow)], weights)
    np.testing.assert_allclose(skin[width, CHEEKS, 0] * DEFAULT_SCALE[width], [-0.01, 0.01], rtol=0.15)
