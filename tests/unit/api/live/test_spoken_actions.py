"""The actions of a text in speech that arrives in pieces."""

from __future__ import annotations

import numpy as np
import pytest

from lipwright.api.live.spoken_actions import SpokenActions
from lipwright.media.audio import SPEECH_SAMPLE_RATE
from lipwright.media.subtitles.actions import read_actions


@pytest.mark.parametrize(
    ("text", "num_pieces", "expected"), [("Good [wave] morning.", 100, 5), ("[wave] Good morning.", 800, 21)]
)
def test_actions_are_found_once_a_second_until_settled(text: str, num_pieces: int, expected: int) -> None:
    actions = SpokenActions(read_actions(text, ["wave"]))
    assert not actions.is_due
    num_searches = 0
    for _ in range(num_pieces):
        actions.push(np.full(SPEECH_SAMPLE_RATE // 20, 3000, np.int16), SPEECH_SAMPLE_RATE)
        if actions.is_due:
            (seconds,) = actions.seconds(is_whole=False)
            assert 0 <= seconds <= 5
            num_searches += 1
    assert num_searches == expected
