from __future__ import annotations

import numpy as np
import pytest

from media.yuv_frame import YuvFrame
from models.track.tracker import TrackState, see
from tests.unit.models.track.test_shots import scenery

RNG = np.random.default_rng(3)
HERE, THERE = scenery(), scenery()


def seen(planes: YuvFrame, shift: int = 0, gain: float = 1.0, noise: float = 2.0) -> YuvFrame:
    luma = np.roll(planes.y, (shift // 2, shift), (0, 1)).astype(float) * gain
    return planes._replace(y=(luma + RNG.normal(0, noise, luma.shape)).clip(0, 255).astype(np.uint8))


def cuts(frames: list[YuvFrame]) -> list[int]:
    """Frames at which whatever was followed is given up."""
    state, found = TrackState(None, None, None), []
    for number, frame in enumerate(frames):
        state = see(frame, state)
        assert state.scenes is not None
        if state.scenes.is_cut:
            found.append(number)
    return found


def test_see_cut_or_flash_is_a_cut() -> None:
    here, there = [seen(HERE) for _ in range(12)], [seen(THERE) for _ in range(12)]
    assert cuts([*here, *there, *here]) == [12, 24]
    assert cuts([*here, *there[:1], *here]) == [12, 13]  # there and back
    assert cuts([*here, *there[:3], *here]) == [12, 15]


@pytest.mark.parametrize(("reach", "gain", "noise"), [(8, 0.06, 6.0), (24, 1.0, 2.0)])
def test_see_shaking_camera_is_no_cut(reach: int, gain: float, noise: float) -> None:
    shaken = [seen(HERE, int(RNG.integers(-reach, reach)), gain, noise) for _ in range(40)]
    assert max(cuts(shaken), default=0) <= 3  # its first steps look like cuts
