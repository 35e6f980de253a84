from __future__ import annotations

import numpy as np
import pytest

from media.output.dynamic_range import to_range
from media.probe import ColourTags

SDR = ColourTags(1, False, 1, 1)
PQ, HLG = ColourTags(9, False, 9, 16), ColourTags(9, False, 9, 18)


def test_to_range_same_range_returns_the_picture() -> None:
    rgb = np.full((2, 2, 3), (9, 200, 40), np.uint8)
    assert to_range(rgb, SDR, ColourTags(6, True, 2, 2)) is rgb


@pytest.mark.parametrize(("wanted", "signal"), [(PQ, 0.58), (HLG, 0.75)])
def test_to_range_white_is_the_reference_white(wanted: ColourTags, signal: float) -> None:
    white = to_range(np.full((2, 2, 3), 255, np.uint8), SDR, wanted)
    assert np.abs(white / 255 - signal).max() < 0.005


@pytest.mark.parametrize("hdr", [PQ, HLG])
def test_to_range_and_back_keeps_colours(hdr: ColourTags) -> None:
    levels = np.linspace(0, 200, 6).astype(np.uint8)  # below the knee
    rgb = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(6, 36, 3)
    off = np.abs(to_range(to_range(rgb, SDR, hdr), hdr, SDR).astype(int) - rgb)
    is_grey = np.ptp(rgb, -1) == 0
    assert off.mean() < 3 and off[is_grey].max() <= 4
    assert off.max() < 30  # one level of eight-bit HDR, in the dark channel of a saturated colour


@pytest.mark.parametrize("hdr", [PQ, HLG])
def test_to_range_compresses_highlights(hdr: ColourTags) -> None:
    signals = np.array([0.55, 0.58, 0.62, 0.66] if hdr is PQ else [0.70, 0.75, 0.80, 0.85])
    rgb = np.repeat(np.rint(255 * signals).astype(np.uint8)[None, :, None], 3, 2)
    shown = to_range(rgb, hdr, SDR)[0, :, 1].astype(int)
    assert (np.diff(shown) > 0).all() and shown[1] > 240 and shown[-1] <= 255
