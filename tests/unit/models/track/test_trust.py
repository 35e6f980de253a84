from __future__ import annotations

import numpy as np
import pytest

from models.track.pass_reason import PassReason
from models.track.trust import mouth_share, patch_share, trust_of

SHOWN = np.zeros(40, np.uint8)
ONE_SHOT = np.zeros(40, np.int32)


def test_the_effect_fades_on_both_sides_of_a_gap() -> None:
    passed = SHOWN.copy()
    passed[18:22] = PassReason.NO_FACE
    trust = trust_of(passed, ONE_SHOT, 25.0)
    assert (trust[18:22] == 0).all()
    assert (np.diff(trust[12:19]) < 0).all()
    assert (np.diff(trust[21:27]) > 0).all()
    assert trust[:12].min() == trust[28:].min() == 1
    assert (trust == trust[::-1]).all()  # played backwards it fades alike


@pytest.mark.parametrize("fps", [12.5, 25.0, 60.0])
def test_the_fade_takes_its_time_at_any_frame_rate(fps: float) -> None:
    passed = np.zeros(200, np.uint8)
    passed[0] = PassReason.COVERED
    trust = trust_of(passed, np.zeros(200, np.int32), fps)
    assert np.flatnonzero(trust == 1)[0] / fps == pytest.approx(0.2, abs=1.1 / fps)


def test_a_cut_needs_no_fade() -> None:
    passed, shot = SHOWN.copy(), ONE_SHOT.copy()
    passed[20:], shot[20:] = PassReason.OTHER_PERSON, 1
    trust = trust_of(passed, shot, 25.0)
    assert trust[:20].min() == 1
    assert trust[20:].max() == 0


def test_the_mouth_is_home_before_the_patch_goes() -> None:
    trust = np.linspace(0, 1, 101)
    mouth, patch = mouth_share(trust), patch_share(trust)
    assert (mouth[patch < 0.5] < 0.01).all()
    assert patch[0] == mouth[0] == 0
    assert patch[-1] == mouth[-1] == 1
    assert (np.diff(mouth) >= 0).all() and (np.diff(patch) >= 0).all()
