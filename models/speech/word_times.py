"""When words of a text are spoken: its phrases are matched with the pauses of the speech.

Between two matched pauses, time is shared by the length of the words as they are spoken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.speech.level import ROWS_PER_SECOND

_PHRASE_END: Final = re.compile(r"(?:[.,;:!?…—]+[\"'”’)\]]*(?=\s|$)|[。，、；：！？]+|\n+)\s*")
_MIN_PAUSE_ROWS: Final = 5
_NEAR_ROWS: Final = 400
"""How far from its expected time the pause after a phrase may be: 8 s."""
_WINDOW: Final = 96
"""Matches between which the next one is reached."""
_UNMATCHED_PHRASE, _UNMATCHED_ROW, _FULL_CHARS = 0.15, 0.02, 10
"""Costs of a phrase without a pause after it, and of each row of a pause that ends no phrase. Relative to these, the
rate of speech between two matches costs the square of its logarithm, and less if they are closer than so many
characters."""
_LONG: Final = re.compile(r"[0-9]|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""A digit, or a character that stands for about a syllable."""
_LONG_CHARS: Final = 3.0


def word_times(text: str, positions: Sequence[int], speaks: NDArray[np.bool_]) -> list[float]:
    """Return when the words at character `positions` of a text begin, in seconds since the first row.

    Args:
        text: What is spoken.
        positions: Ascending; the length of the text stands for its end.
        speaks: (N,) whether each row of 20 ms of the recorded text is loud, see `models.speech.activity.is_speech`.
    """
    length = np.concatenate([[0.0], np.cumsum([_spoken_length(character) for character in text])])
    spoken = np.concatenate([[0], np.cumsum(speaks)]).astype(np.float64)
    if not spoken[-1] or not length[-1]:
        return [len(speaks) / ROWS_PER_SECOND * position / max(1, len(text)) for position in positions]
    starts = [match.end() for match in _PHRASE_END.finditer(text) if 0 < length[match.end()] < length[-1]]
    matches = _matched(length[starts], length[-1], _pauses(speaks), spoken)
    chars, speech, rows = matches.T
    times = []
    for position in positions:
        place = min(int(np.searchsorted(chars, length[position] + 1e-6)), len(chars) - 1)
        share = (length[position] - chars[place - 1]) / (chars[place] - chars[place - 1])
        wanted = speech[place - 1] + share * (speech[place] - speech[place - 1])
        row = rows[place - 1] if share <= 0 else float(np.searchsorted(spoken, wanted))
        times.append(float(row) / ROWS_PER_SECOND)
    return times


def _spoken_length(character: str) -> float:
    if _LONG.match(character):
        return _LONG_CHARS
    return 1.0 if character.isalnum() else 0.3 if character.isspace() else 0.0


def _pauses(speaks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return (P, 2) the rows [start, stop) of pauses inside speech."""
    edges = np.flatnonzero(np.diff(np.pad(speaks, 1).astype(np.int8)))
    pauses = edges[1:-1].reshape(-1, 2)
    return pauses[pauses[:, 1] - pauses[:, 0] >= _MIN_PAUSE_ROWS]


def _matched(
    ends: NDArray[np.float64], num_chars: float, pauses: NDArray[np.int64], spoken: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return phrase boundaries with their pauses, from the start of the speech to its end.

    The cheapest of all matches is chosen, by dynamic programming: boundaries and pauses may be left out, and between
    two matches the speech should be about as fast as in all of it.

    Returns:
        (M, 3) characters and rows of speech before a boundary, and the row in which the next word begins.
    """
    rows_per_char = spoken[-1] / num_chars
    begins, resumes = pauses.T
    skipped = np.concatenate([[0], np.cumsum(resumes - begins)]) * _UNMATCHED_ROW
    order, places = [(-1, -1)], [(0.0, 0.0, float(np.argmax(spoken > 0) - 1))]
    for boundary, end in enumerate(ends.tolist()):
        for number in np.flatnonzero(np.abs(spoken[begins] - end * rows_per_char) <= _NEAR_ROWS).tolist():
            order.append((boundary, number))
            places.append((end, float(spoken[begins[number]]), float(resumes[number])))
    orders = np.array([*order, (len(ends), len(pauses))])
    found = np.array([*places, (num_chars, spoken[-1], len(spoken) - 1)])
    costs, previous = np.zeros(len(found)), np.zeros(len(found), np.int64)
    for index in range(1, len(found)):
        before = np.r_[0, max(1, index - _WINDOW) : index]
        chars, rows, _ = (found[index] - found[before]).T
        phrases, stops = (orders[index] - orders[before]).T
        is_possible = (phrases > 0) & (stops > 0) & (rows > 0)
        rate = np.log(np.where(is_possible, rows, 1) / np.maximum(chars, 1e-6) / rows_per_char)
        cost = (
            costs[before]
            + np.minimum(chars / _FULL_CHARS, 1) * rate**2
            + _UNMATCHED_PHRASE * (phrases - 1)
            + skipped[orders[index, 1]]
            - skipped[orders[before, 1] + 1]
        )
        best = int(np.argmin(np.where(is_possible, cost, np.inf)))
        costs[index], previous[index] = cost[best] if is_possible[best] else np.inf, before[best]
    path = [len(found) - 1]
    while path[-1]:
        path.append(int(previous[path[-1]]))
    return found[path[::-1]]
