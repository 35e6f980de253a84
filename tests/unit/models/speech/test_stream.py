from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from models.speech.features import SpeechFeatures, measure_level
from models.speech.level import RunningLevel
from models.speech.speech_to_mouth import SpeechToMouth
from models.speech.stream import LOOK_AHEAD_SECONDS, SpeechStream
from tests.unit.models.speech.conftest import RATE, Samples
from tests.unit.models.speech.live_windows import live_windows

FPS = Fraction(25)
STEP = 4


def test_stream_mouth_is_close_to_the_files(
    voice: Samples, features: SpeechFeatures, mouth: SpeechToMouth, tmp_path: Path
) -> None:
    path, voice = tmp_path / "speech.npy", voice[: 5 * RATE]
    np.save(path, voice)
    num = len(voice) * 25 // RATE // STEP * STEP
    whole = mouth.predict(features.extract(path, measure_level(path), 0, num / 25), FPS, 0, num)
    parts = [
        mouth.predict(features.extract_window(window), FPS, span.first, STEP)
        for span, window in live_windows(voice, FPS, range(num), STEP)
    ]
    shape, gate = (np.concatenate([getattr(part, name) for part in parts]) for name in ("shape", "gate"))
    # Measured .987 for the whole file; 13 clips have .949.
    assert np.corrcoef(whole.shape[:, 0], shape[:, 0])[0, 1] > 0.95
    assert np.abs(whole.gate - gate).mean() < 0.02
    late = [np.corrcoef(np.roll(shape[:, 0], lag)[3:-3], whole.shape[3:-3, 0])[0, 1] for lag in (-1, 0, 1)]
    assert np.argmax(late) == 1


def test_running_level_is_independent_of_pieces_and_follows_gain(voice: Samples) -> None:
    level, in_pieces, quiet = RunningLevel(), RunningLevel(), RunningLevel()
    level.add(voice)
    quiet.add((voice * 0.1).astype(np.int16))
    for start in range(0, len(voice), 333):
        in_pieces.add(voice[start : start + 333])
    assert level.level(RATE) == in_pieces.level(RATE)
    assert quiet.level(RATE).gain / level.level(RATE).gain == pytest.approx(10, rel=0.35)


def test_extract_window_encodes_the_last_1_2_s_before_its_frames(voice: Samples, features: SpeechFeatures) -> None:
    stream = SpeechStream()
    stream.push(voice)
    window = stream.window(2.0, 2.08)
    whole, first_frame = features.extract_window(window).features, round(2.0 * RATE) - window.first_row * 320
    for seconds, is_equal in ((1.25, True), (1.1, False)):  # the spectrum of a row reaches 12.5 ms back
        samples = window.samples.copy()
        samples[: first_frame - round(seconds * RATE)] = 0
        found = features.extract_window(replace(window, samples=samples)).features
        assert np.array_equal(whole, found) == is_equal


def test_stream_window_looks_240_ms_ahead(voice: Samples) -> None:
    known = round((1.76 + LOOK_AHEAD_SECONDS) * RATE)

    def known_of(samples: Samples) -> Samples:
        stream = SpeechStream()
        stream.push(samples)
        window = stream.window(1.6, 1.76)
        assert len(window.samples) == known - window.first_row * 320
        return window.samples

    changed = voice.copy()
    changed[known:] = 0
    assert np.array_equal(known_of(voice), known_of(changed))
    changed[known - 1] += 1
    assert not np.array_equal(known_of(voice), known_of(changed))
    assert LOOK_AHEAD_SECONDS <= 0.24


def test_stream_shut_closes_begin_opens_mouth(voice: Samples, features: SpeechFeatures, mouth: SpeechToMouth) -> None:
    stream, cut = SpeechStream(), 1.6
    stream.push(voice[: 2 * RATE])
    stream.forget_after(int(cut * RATE))
    stream.shut(cut)
    assert stream.num_samples == int(cut * RATE)
    stream.push(np.zeros(int(0.8 * RATE), np.int16))
    shown = mouth.predict(features.extract_window(stream.window(cut, cut + 0.4)), FPS, 40, 10)
    assert shown.gate[0] > 0.3, "it does not jump"
    assert (shown.gate[4:] < 0.05).all(), "160 ms later it is shut"
    stream.begin()
    stream.push(voice[RATE : 3 * RATE])
    shown = mouth.predict(features.extract_window(stream.window(2.6, 3.0)), FPS, 65, 10)
    assert (shown.gate > 0.95).all()


def test_stream_begin_opens_mouth_softly(voice: Samples, features: SpeechFeatures, mouth: SpeechToMouth) -> None:
    loud = voice[RATE : 3 * RATE]
    for before, softly in ((np.zeros(RATE, np.int16), True), (loud[:RATE], False)):
        stream = SpeechStream()
        stream.push(before)
        window = stream.window(0.5, 0.66)
        shown = mouth.predict(features.extract_window(window), FPS, 13, 3)
        assert window.is_silent == softly == (not shown.shape.any()), "silence keeps it closed"
        assert not (softly and shown.gate.any())
        stream.begin()
        stream.push(loud)
        gate = mouth.predict(features.extract_window(stream.window(1.0, 1.4)), FPS, 25, 10).gate
        assert (gate[0] < 0.3) == softly
        assert (gate[3:] > 0.95).all(), "it is open after 80 ms"
