"""Live speech drives Wav2Lip as the same speech in a job does."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.engines.protocol import EngineClass, FrameSpan, LiveEngine
from models.engines.wav2lip.audio import SILENCE, MelAudioEncoder, MelLiveAudioEncoder, plan_windows
from models.engines.wav2lip.engine import Wav2LipEngine
from models.speech.level import measure_level
from models.speech.stream import LOOK_AHEAD_SECONDS, SpeechStream

MAKER: type[LiveEngine] | EngineClass = Wav2LipEngine
RATE, NUM = 16000, 2


def _voice(seconds: float) -> NDArray[np.int16]:
    noise = np.random.default_rng(3).normal(0, 3000, round(seconds * RATE))
    voice: NDArray[np.int16] = (noise * np.sin(np.arange(len(noise)) / 2000) ** 2).astype(np.int16)
    return voice


def _live_windows(speech: NDArray[np.int16], fps: Fraction, num_frames: int, mel_offset: int) -> NDArray[np.float32]:
    """(T, 80, 16) of a session into which the speech comes only as far as it looks ahead."""
    stream, made = SpeechStream(), []
    for first in range(0, num_frames, NUM):
        start, stop = float(first / fps), float((first + NUM) / fps)
        stream.push(speech[stream.num_samples : round((stop + LOOK_AHEAD_SECONDS) * RATE)])
        features = MelLiveAudioEncoder().encode_live(stream.window(start, stop))
        span = FrameSpan(fps, first, NUM, first + NUM)
        made.append(plan_windows(features, span, np.zeros(NUM, np.int32), mel_offset).features)
    return np.concatenate(made)


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
@pytest.mark.parametrize("mel_offset", [0, -1])
def test_mel_encode_live_equals_encode(tmp_path: Path, fps: Fraction, mel_offset: int) -> None:
    speech = _voice(4.0)
    np.save(tmp_path / "speech.npy", speech)
    num_frames = 80
    span = FrameSpan(fps, 0, num_frames, num_frames)
    features = MelAudioEncoder().encode(tmp_path / "speech.npy", measure_level(tmp_path / "speech.npy"), span)
    job = plan_windows(features, span, np.zeros(num_frames, np.int32), mel_offset).features
    live = _live_windows(speech, fps, num_frames, mel_offset)
    assert live.shape == job.shape
    assert np.abs(live - job).max() < 1e-4, "of a range from -4 to 4"


def test_mel_encode_live_after_interruption_reads_silence() -> None:
    stream = SpeechStream()
    stream.push(_voice(2.0))
    stream.forget_after(RATE)
    stream.push(_voice(1.0))
    stream.shut(1.0)
    features = MelLiveAudioEncoder().encode_live(stream.window(1.12, 1.2))
    span = FrameSpan(Fraction(25), 28, NUM, 30)
    assert np.all(plan_windows(features, span, np.zeros(NUM, np.int32), 0).features == np.float32(SILENCE))
