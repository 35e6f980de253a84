from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from models.mouth.shape import CHANNELS, DEFAULT_SCALE, NUM_CHANNELS
from models.people.report import SpeakerTurn
from models.people.speakers import SourceMouth, TrackedMouths, find_speakers

FPS = Fraction(25)
SECONDS = 12
NUM = int(SECONDS * FPS)
RNG = np.random.default_rng(4)
OPENING = [CHANNELS.index(name) for name in ("open_in", "open_out", "lower", "jaw")]


def syllables(num_rows: int, rate: float) -> NDArray[np.float32]:
    """(num_rows, 8) mouths that open about four times a second."""
    smooth = np.hanning(max(3, round(rate / 8)))
    noise = np.stack([np.convolve(RNG.normal(size=num_rows), smooth, "same") for _ in range(2)], 1)
    noise /= noise.std(0)
    shape = np.zeros((num_rows, NUM_CHANNELS))
    shape[:, OPENING], shape[:, CHANNELS.index("width")] = noise[:, :1], noise[:, 1]
    return np.asarray(shape * DEFAULT_SCALE, np.float32)


SPOKEN = syllables(2 * NUM, 50)
FRAMES = np.arange(NUM)


def sound(is_heard: NDArray[np.bool_] | None = None) -> SourceMouth:
    heard = np.ones(2 * NUM, bool) if is_heard is None else is_heard
    return SourceMouth(SPOKEN * heard[:, None], heard.astype(np.float32), heard)


def talks(during: slice, lag: int = 0) -> NDArray[np.float32]:
    """(N, 8) the mouth of the sound, `lag` frames early, with errors; at rest outside of `during`."""
    mouth = RNG.normal(0, 0.1, (NUM, NUM_CHANNELS)) * DEFAULT_SCALE
    spoken = SPOKEN[::2][(FRAMES + lag) % NUM] + RNG.normal(0, 0.4, (NUM, NUM_CHANNELS)) * DEFAULT_SCALE
    mouth[during] = spoken[during]
    return np.asarray(mouth, np.float32)


def tracked(*mouths: NDArray[np.float32]) -> TrackedMouths:
    everybody = TrackedMouths.empty(len(mouths), NUM)
    for person, mouth in enumerate(mouths):
        everybody.add(person, FRAMES.astype(np.int32), mouth, np.zeros(NUM, np.float32))
    return everybody


def speaker_at(turns: list[SpeakerTurn], at: float) -> int | None:
    return next(turn.person for turn in turns if turn.start <= at < turn.end)


HALF = NUM // 2


def test_find_speakers_picks_the_mouth_that_fits_or_moves() -> None:
    def speakers(*mouths: NDArray[np.float32]) -> set[int | None]:
        return {turn.person for turn in find_speakers(tracked(*mouths), FPS, sound()).turns(FPS)}

    rest, others = talks(slice(0, 0)), [syllables(NUM, 25) for _ in range(2)]
    assert speakers(rest, rest) == {None}
    assert speakers(*others, talks(slice(0, NUM))) == {2}
    assert speakers(others[0], rest) == {0}, "the prediction may be poor: under music, or in another language"


def test_find_speakers_unseen_speaker_is_none() -> None:
    mouths = tracked(talks(slice(0, NUM)), talks(slice(0, 0)))
    mouths.is_seen[0, HALF:] = mouths.is_frontal[0, HALF:] = False
    turns = find_speakers(mouths, FPS, sound()).turns(FPS)
    assert (speaker_at(turns, 1.0), speaker_at(turns, SECONDS - 1.0)) == (0, None)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([*range(NUM // 2), *range(NUM, 2 * NUM)], [(0, SECONDS / 4), (SECONDS / 2, SECONDS)]),
        ([*range(100), *range(120, 2 * NUM)], [(0, SECONDS)]),  # a short pause
        ([*range(100, 106), *range(200, 400)], [(4, 8)]),  # a short sound
    ],
)
def test_find_speakers_turns_follow_the_heard_rows(rows: list[int], expected: list[tuple[float, float]]) -> None:
    heard = np.isin(np.arange(2 * NUM), rows)
    turns = find_speakers(tracked(talks(slice(0, NUM))), FPS, sound(heard)).turns(FPS)
    assert [(turn.start, turn.end) for turn in turns] == expected
    assert {turn.person for turn in turns} == {0}


@pytest.mark.parametrize("lag", [-4, 0, 3])
def test_find_speakers_in_turn_with_an_offset(lag: int) -> None:
    mouths = tracked(talks(slice(0, HALF), lag), talks(slice(HALF, NUM), lag))
    speakers = find_speakers(mouths, FPS, sound())
    offset, turns = speakers.sync.offset_seconds, speakers.turns(FPS)
    assert offset is not None and abs(offset - lag / 25) < 0.02
    assert [turn.person for turn in turns] == [0, 1]
    if not lag:
        assert turns[0].start == 0 and turns[-1].end == SECONDS
        assert abs(turns[0].end - SECONDS / 2) < 0.4 and turns[1].start == turns[0].end
        assert min(turn.confidence for turn in turns) > 0.9
