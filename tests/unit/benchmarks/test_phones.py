"""Phones are found in speech with a known text, or read from labels."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from benchmarks.phones.alignment import Phone, find_phones, read_labels
from benchmarks.phones.measures import Shapes, frames_of
from samples.make_samples import SENTENCE


def test_find_phones_of_the_sample_speech_are_in_order(repo_root: Path) -> None:
    with wave.open(str(repo_root / "samples" / "speech.wav")) as file:
        speech = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    phones = find_phones(speech, SENTENCE)
    assert [phone.start_seconds for phone in phones] == sorted(phone.start_seconds for phone in phones)
    assert {"m", "i", "f", "w"} <= {phone.name for phone in phones}
    assert phones[-1].stop_seconds <= len(speech) / 16000


def test_find_phones_unknown_word_is_named() -> None:
    with pytest.raises(ValueError, match="'qzx'"):
        find_phones(np.zeros(16000, np.int16), "hello qzx")


def test_read_labels_parses_times_and_phones(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("0.1\t0.3\tu\n0.3\t0.4\tm\n0.5\t1.1\tu\n", encoding="utf-8")
    phones = read_labels(path)
    assert phones[0] == Phone("u", 0.1, 0.3)
    assert frames_of(phones, 25)["u"] == [20, 5], "the longest first"
    path.write_text("0.1 0.3 u\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 1"):
        read_labels(path)


def test_shapes_means_skip_missing_frames() -> None:
    planned = np.arange(12, dtype=np.float32).reshape(4, 3)
    means = Shapes(planned, {"rendered": planned[:3] + 1}).means({"u": [0, 2, 3], "i": [3]})
    assert list(means) == ["u"]
    assert means["u"]["planned"].tolist() == [3, 4, 5]
    assert means["u"]["rendered"].tolist() == [4, 5, 6]
