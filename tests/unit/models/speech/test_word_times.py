import time

import numpy as np
import pytest

from models.speech.word_times import word_times


def rows_of(text: str, pauses: dict[str, int], lead: int = 0, per_char: int = 3) -> tuple[list[bool], dict[str, float]]:
    """Speech of `text` at an even rate, with a pause after some words; the true starts of words, in seconds."""
    rows, starts = [False] * lead, {}
    for word in text.split():
        starts[word] = len(rows) / 50
        rows += [True] * (per_char * sum(map(str.isalnum, word))) + [False] * pauses.get(word, 0)
    return rows, starts


TEXT = "Hello there! Welcome to our large office, please come in. It is late."


@pytest.mark.parametrize("word", ["Hello", "Welcome", "large", "please", "It", "late."])
def test_word_times_follow_the_pauses(word: str) -> None:
    rows, starts = rows_of(TEXT, {"there!": 60, "office,": 8, "in.": 40}, lead=25)
    (found,) = word_times(TEXT, [TEXT.index(word)], np.array(rows))
    after_pause = word in ("Hello", "Welcome", "please", "It")
    assert found == pytest.approx(starts[word], abs=0.021 if after_pause else 0.15)
    rows, starts = rows_of(TEXT, {"there!": 30, "Welcome": 30, "office,": 12, "in.": 30})  # one inside of a phrase
    (found,) = word_times(TEXT, [TEXT.index("please")], np.array(rows))
    assert found == pytest.approx(starts["please"], abs=0.021)


@pytest.mark.parametrize("rows", [np.zeros(100, bool), np.zeros(0, bool), np.ones(100, bool)])
def test_word_times_without_pauses_are_shared_by_length(rows: np.ndarray) -> None:
    times = word_times("ab cd", [0, 3, 5], rows)
    assert times == pytest.approx([0, 0.55 * len(rows) / 50, len(rows) / 50], abs=0.15)


def test_word_times_of_a_long_text_take_few_seconds() -> None:
    text = "This is one of many sentences, and it is short. " * 650
    rows, _ = rows_of(text, {"sentences,": 10, "short.": 30}, per_char=2)
    began = time.process_time()
    (found,) = word_times(text, [len(text) - 48], np.array(rows))
    assert time.process_time() - began < 20
    assert found == pytest.approx(len(rows) / 50 * 649 / 650, abs=0.1)
