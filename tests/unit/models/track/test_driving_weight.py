from __future__ import annotations

import numpy as np
import pytest

from models.track.driving_weight import driving_weights, mouth_share, patch_share
from models.track.skip_reason import SkipReason

SHOWN = np.zeros(40, np.uint8)
ONE_SHOT = np.zeros(40, np.int32)


def test_driving_weights_fade_on_both_sides_of_a_gap() -> None:
    skip_reason = SHOWN.copy()
    skip_reason[18:22] = SkipReason.NO_FACE
    weight = driving_weights(skip_reason, ONE_SHOT, 25.0)
    assert (weight[18:22] == 0).all()
    assert (np.diff(weight[12:19]) < 0).all()
    assert (np.diff(weight[21:27]) > 0).all()
    assert weight[:12].min() == weight[28:].min() == 1
    assert (weight == weight[::-1]).all()  # played backwards it fades alike


def test_driving_weights_are_at_most_facing() -> None:
    facing = np.linspace(1, 0.2, 40, dtype=np.float32)
    skip_reason = SHOWN.copy()
    skip_reason[0] = SkipReason.NO_FACE
    free = driving_weights(skip_reason, ONE_SHOT, 25.0)
    assert (driving_weights(skip_reason, ONE_SHOT, 25.0, facing) == np.minimum(free, facing)).all()


@pytest.mark.parametrize("fps", [12.5, 25.0, 60.0])
def test_driving_weights_fade_equally_long_at_any_rate(fps: float) -> None:
    skip_reason = np.zeros(200, np.uint8)
    skip_reason[0] = SkipReason.COVERED
    weight = driving_weights(skip_reason, np.zeros(200, np.int32), fps)
    assert np.flatnonzero(weight == 1)[0] / fps == pytest.approx(0.2, abs=1.1 / fps)


def test_driving_weights_do_not_fade_at_a_cut() -> None:
    skip_reason, shot = SHOWN.copy(), ONE_SHOT.copy()
    skip_reason[20:], shot[20:] = SkipReason.OTHER_PERSON, 1
    weight = driving_weights(skip_reason, shot, 25.0)
    assert weight[:20].min() == 1
    assert weight[20:].max() == 0


def test_mouth_share_ends_before_patch_share() -> None:
    weight = np.linspace(0, 1, 101)
    mouth, patch = mouth_share(weight), patch_share(weight)
    assert (mouth[patch < 0.5] < 0.01).all()
    assert patch[0] == mouth[0] == 0
    assert patch[-1] == mouth[-1] == 1
    assert (np.diff(mouth) >= 0).all() and (np.diff(patch) >= 0).all()
