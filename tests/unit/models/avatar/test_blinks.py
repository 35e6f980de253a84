"""When a portrait blinks."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.avatar.blinks import blinks
from models.speech.prosody import Prosody


def _starts(closing: NDArray[np.float64], fps: float) -> NDArray[np.float64]:
    shut = closing == 1
    return np.flatnonzero(shut[1:] & ~shut[:-1]) / fps


@pytest.mark.parametrize("fps", [10, 25, 60])
def test_blinks_are_irregular_and_close_the_eyes(fps: int) -> None:
    seconds = np.arange(120 * fps) / fps
    closing = blinks(5, seconds, fps, Prosody.silence(len(seconds)))
    starts = _starts(closing, fps)
    assert 13 * 2 < len(starts) < 21 * 2, "17 a minute"
    pauses = np.diff(starts)
    assert pauses.min() > 0.6 and pauses.max() > 4 and pauses.std() > 0.8
    rises = np.flatnonzero((closing[1:] > 0) & (closing[:-1] == 0)) + 1
    assert all(closing[start : start + fps // 2].max() == 1 for start in rises)


def test_blinks_close_faster_than_open() -> None:
    seconds = np.arange(6000) / 100
    closing = blinks(5, seconds, 100, Prosody.silence(len(seconds)))
    steps = np.diff(closing)
    assert (steps < 0).sum() > 1.4 * (steps > 0).sum()


def test_blinks_follow_most_phrase_ends() -> None:
    seconds = np.arange(200 * 25) / 25
    ends = np.arange(200, 10000, 200)  # every four seconds
    with_ends = blinks(5, seconds, 25, Prosody.silence(len(seconds))._replace(ends=ends))
    blinked = [with_ends[round(end / 2) : round(end / 2) + 20].max() == 1 for end in ends]
    without = blinks(5, seconds, 25, Prosody.silence(len(seconds)))
    by_chance = [without[round(end / 2) : round(end / 2) + 20].max() == 1 for end in ends]
    assert np.mean(blinked) > 0.6 > 0.45 > np.mean(by_chance)


def test_blinks_of_another_seed_start_at_other_times() -> None:
    seconds = np.arange(1500) / 25
    silence = Prosody.silence(len(seconds))
    first, second = (_starts(blinks(seed, seconds, 25, silence), 25).tolist() for seed in (1, 2))
    assert first != second
