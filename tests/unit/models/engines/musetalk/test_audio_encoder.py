"""What is heard does not depend on how a job is divided, and frames are driven by the rows around them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from models.engines.musetalk.audio import WINDOW_ROWS, WhisperAudioEncoder
from models.engines.musetalk.plan import ROWS_PER_FRAME, first_rows
from models.engines.musetalk.whisper import WhisperEncoder
from models.engines.protocol import FrameSpan
from models.speech.level import SpeechLevel, measure_level
from tests.unit.models.engines.musetalk.test_whisper import speech_like

NTSC = Fraction(30000, 1001)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """31 seconds: one window and a little of the next."""
    path = tmp_path_factory.mktemp("speech") / "speech.npy"
    np.save(path, (speech_like(31.0) * 32767).clip(-32768, 32767).astype(np.int16))
    return path


@pytest.fixture(scope="module")
def level(speech: Path) -> SpeechLevel:
    return measure_level(speech)


@pytest.fixture
def audio_encoder(small_whisper: WhisperEncoder) -> WhisperAudioEncoder:
    return WhisperAudioEncoder(small_whisper)


def span(first: int, stop: int, fps: Fraction = NTSC) -> FrameSpan:
    return FrameSpan(fps, first, stop - first, 940)


def test_first_rows_any_rate_begin_80_ms_ahead() -> None:
    assert first_rows(Fraction(25), 0, 4).tolist() == [-4, -2, 0, 2]
    assert first_rows(Fraction(24), 24, 1).tolist() == [46]
    assert first_rows(Fraction(60), 60, 1).tolist() == [46]
    # After an hour of 29.97; with int(fps), 29, it would hear what is said two minutes later.
    frame = 107892
    assert first_rows(NTSC, frame, 1)[0] == int(frame * 50 * 1001 / 30000) - 4


def test_whisper_encode_span_equals_rows_of_whole(
    audio_encoder: WhisperAudioEncoder, speech: Path, level: SpeechLevel
) -> None:
    whole = audio_encoder.encode(speech, level, span(0, 928))
    assert whole.first_row == -4
    assert not whole.rows[:4].any()
    assert whole.gate.max() == 1.0
    assert whole.rows[4:].all(2).all()
    for first, stop in ((0, 100), (100, 333), (880, 928)):
        part = WhisperAudioEncoder(audio_encoder._windows._encoder).encode(speech, level, span(first, stop))
        offset = part.first_row - whole.first_row
        assert np.array_equal(part.rows, whole.rows[offset : offset + len(part.rows)])
        assert np.array_equal(part.gate, whole.gate[first:stop])
        starts = first_rows(NTSC, first, stop - first)
        assert part.first_row == starts[0]
        assert part.first_row + len(part.rows) == starts[-1] + ROWS_PER_FRAME


def test_whisper_encode_past_end_reads_silence(
    audio_encoder: WhisperAudioEncoder, speech: Path, level: SpeechLevel
) -> None:
    late = audio_encoder.encode(speech, level, span(1850, 1860, Fraction(25)))  # 74 s: a window of silence alone
    later = audio_encoder.encode(speech, level, span(1850 + 750, 1860 + 750, Fraction(25)))
    assert not late.gate.any()
    assert np.array_equal(late.rows, later.rows)
    assert late.rows.all(2).all()


def test_whisper_encode_runs_each_window_once(small_whisper: WhisperEncoder, speech: Path, level: SpeechLevel) -> None:
    audio_encoder = WhisperAudioEncoder(small_whisper)
    first = audio_encoder.encode(speech, level, span(0, 10))
    assert len(audio_encoder._windows._kept) == 1
    audio_encoder.encode(speech, level, span(100, 110))
    assert len(audio_encoder._windows._kept) == 1
    assert np.array_equal(audio_encoder.encode(speech, level, span(0, 10)).rows, first.rows)
    assert WINDOW_ROWS == 1500
