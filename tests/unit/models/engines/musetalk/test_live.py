"""Live speech drives MuseTalk as the same speech in a job does, as far as Whisper hears the same."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.engines.musetalk.audio import WhisperAudioEncoder, WhisperLiveAudioEncoder
from models.engines.musetalk.engine import MuseTalkEngine
from models.engines.musetalk.plan import MuseTalkPlan
from models.engines.musetalk.whisper import WhisperEncoder
from models.engines.protocol import EngineClass, FrameSpan, LiveEngine
from models.speech.level import measure_level
from models.speech.stream import LOOK_AHEAD_SECONDS, SpeechStream
from tests.unit.models.engines.musetalk.test_whisper import speech_like

MAKER: type[LiveEngine] | EngineClass = MuseTalkEngine
RATE, NUM = 16000, 2


def _job(encoder: WhisperEncoder, speech: NDArray[np.int16], folder: Path, span: FrameSpan) -> NDArray[np.float32]:
    np.save(folder / "speech.npy", speech)
    level = measure_level(folder / "speech.npy")
    features = WhisperAudioEncoder(encoder).encode(folder / "speech.npy", level, span)
    return MuseTalkPlan.of(features, span, np.zeros(span.num, np.int32)).features()


def _live(encoder: WhisperEncoder, speech: NDArray[np.int16], span: FrameSpan) -> NDArray[np.float32]:
    """What drives the frames of a session that is `NUM` frames at a time ahead of its speech by the look-ahead."""
    stream, audio_encoder, made = SpeechStream(), WhisperLiveAudioEncoder(encoder), []
    for first in range(span.first, span.stop, NUM):
        start, stop = float(first / span.fps), float((first + NUM) / span.fps)
        stream.push(speech[stream.num_samples : round((stop + LOOK_AHEAD_SECONDS) * RATE)])
        features = audio_encoder.encode_live(stream.window(start, stop))
        piece = FrameSpan(span.fps, first, NUM, first + NUM)
        made.append(MuseTalkPlan.of(features, piece, np.zeros(NUM, np.int32)).features())
    return np.concatenate(made)


def _speech(seconds: float) -> NDArray[np.int16]:
    return (speech_like(seconds) * 32767).clip(-32768, 32767).astype(np.int16)


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
def test_encode_live_whole_speech_in_window_equals_encode(
    small_whisper: WhisperEncoder, tmp_path: Path, fps: Fraction
) -> None:
    speech = _speech(1.2)
    first = int(1.2 * fps) - 5  # from here on, all of it has arrived
    span = FrameSpan(fps, first, 8, first + 8)
    job, live = _job(small_whisper, speech, tmp_path, span), _live(small_whisper, speech, span)
    assert live.shape == job.shape
    assert np.abs(live - job).max() < 1e-4


def test_encode_live_first_frames_begin_with_zero_rows(small_whisper: WhisperEncoder) -> None:
    features = WhisperLiveAudioEncoder(small_whisper).encode_live(SpeechStream().window(0.0, 0.08))
    plan = MuseTalkPlan.of(features, FrameSpan(Fraction(25), 0, NUM, NUM), np.zeros(NUM, np.int32))
    assert not plan.features().reshape(NUM, 10, -1)[0, :4].any()


def test_encode_live_mid_speech_is_close_to_encode(small_whisper: WhisperEncoder, tmp_path: Path) -> None:
    span = FrameSpan(Fraction(25), 100, 12, 112)
    speech = _speech(8.0)
    job, live = _job(small_whisper, speech, tmp_path, span), _live(small_whisper, speech, span)
    other = _job(small_whisper, speech, tmp_path, FrameSpan(Fraction(25), 130, 12, 142))
    distance = np.linalg.norm(live - job) / np.linalg.norm(other - job)
    assert distance < 0.25, "a quarter of the distance to other speech"


def test_encode_live_at_job_window_border_does_not_cut_speech(small_whisper: WhisperEncoder) -> None:
    stream = SpeechStream()
    stream.push(_speech(31.0))
    features = WhisperLiveAudioEncoder(small_whisper).encode_live(stream.window(30.0, 30.08))
    plan = MuseTalkPlan.of(features, FrameSpan(Fraction(25), 750, NUM, 752), np.zeros(NUM, np.int32))
    assert plan.features().any(axis=(1, 2)).all()
