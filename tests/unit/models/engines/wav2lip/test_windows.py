from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from models.engines.protocol import FrameSpan
from models.engines.wav2lip.audio import (
    MAX_OFFSET,
    columns_needed,
    mel_columns,
    mel_windows,
    num_columns,
    window_starts,
)


@pytest.mark.parametrize("fps", ["25", "29.97", "30"])
def test_window_starts_equal_official_script(reference: Callable[[str], Any], fps: str) -> None:
    official = reference("mel_synth.npz")[f"synth_starts_{fps}"]
    ours = window_starts(FrameSpan(Fraction(fps), 0, len(official), len(official)))
    # Its last window is moved back to end with the file; the frames after it are dropped. Ours go on.
    assert np.array_equal(ours[:-1], official[:-1])
    assert ours[-1] > official[-1]


def test_mel_windows_equal_official_script(reference: Callable[[str], Any]) -> None:
    official = reference("datapath_synth.npz")["mel"]
    wave = reference("mel_synth.npz")["synth_wave_i16"]
    mel = mel_columns(wave, 0, num_columns(len(wave)))
    starts = window_starts(FrameSpan(Fraction(25), 0, 51, 51))[5::15]
    assert starts.tolist() == [16, 64, 112, 160]
    assert np.abs(mel_windows(mel, 0, starts) - official).max() <= 1e-5


def test_window_starts_offset_is_40_ms_at_any_rate() -> None:
    for fps in (Fraction(25), Fraction(30000, 1001), Fraction(50)):
        span = FrameSpan(fps, 0, 400, 400)
        exact = np.array([float(80 * i / fps) for i in range(400)])
        for offset in (-1, 0, 2):
            off = window_starts(span, offset) - (exact + 3.2 * offset)
            assert (off <= 1e-9).all()
            assert (off > -1).all()


def test_window_starts_of_late_span_are_exact() -> None:
    fps = Fraction(30000, 1001)
    whole = window_starts(FrameSpan(fps, 0, 200_000, 200_000))
    part = window_starts(FrameSpan(fps, 199_000, 1000, 200_000))
    assert np.array_equal(part, whole[199_000:])
    assert abs(whole[-1] / 80 - float(199_999 / fps)) < 1 / 80


@pytest.mark.parametrize("offset", [-MAX_OFFSET, 0, MAX_OFFSET])
def test_columns_needed_cover_all_windows(offset: int) -> None:
    for first in (0, 7, 1000):
        span = FrameSpan(Fraction(24000, 1001), first, 13, 2000)
        start, stop = columns_needed(span)
        windows = mel_windows(np.zeros((stop - start, 80), np.float32), start, window_starts(span, offset))
        assert windows.shape == (13, 80, 16)


def test_mel_windows_outside_columns_raise() -> None:
    with pytest.raises(ValueError, match="Expected windows in columns"):
        mel_windows(np.zeros((20, 80), np.float32), 0, np.array([5]))
