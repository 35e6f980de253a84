from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from models.engines.protocol import FrameSpan
from models.engines.wav2lip.audio import MelAudioEncoder, plan_windows
from models.speech.level import measure_level

FPS = Fraction(30000, 1001)
TOTAL = 100  # 3.3 seconds; the speech ends before


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """2.6 seconds: silence, then a loud tone that comes and goes."""
    time = np.arange(41_600) / 16000
    wave = 9000 * np.sin(2 * np.pi * 220 * time) * (time > 1) * np.abs(np.sin(8 * time))
    path = tmp_path / "speech.npy"
    np.save(path, wave.astype(np.int16))
    return path


@pytest.mark.parametrize("cuts", [[0, 100], [0, 1, 2, 50, 100], [0, 33, 66, 99, 100]])
def test_mel_encode_span_equals_bytes_of_whole(speech: Path, cuts: list[int]) -> None:
    level, audio_encoder = measure_level(speech), MelAudioEncoder()
    windows, gates = [], []
    for first, stop in zip(cuts, cuts[1:], strict=False):
        span = FrameSpan(FPS, first, stop - first, TOTAL)
        heard = audio_encoder.encode(speech, level, span)
        windows.append(plan_windows(heard, span, np.zeros(span.num, np.int32), -1).features)
        gates.append(heard.gate)
    whole_span = FrameSpan(FPS, 0, TOTAL, TOTAL)
    whole = audio_encoder.encode(speech, level, whole_span)
    plan = plan_windows(whole, whole_span, np.zeros(TOTAL, np.int32), -1)
    assert np.concatenate(windows).tobytes() == plan.features.tobytes()
    assert np.concatenate(gates).tobytes() == whole.gate.tobytes()


def test_mel_encode_past_end_gives_windows(speech: Path) -> None:
    span = FrameSpan(FPS, 0, TOTAL, TOTAL)
    heard = MelAudioEncoder().encode(speech, measure_level(speech), span)
    windows = plan_windows(heard, span, np.zeros(TOTAL, np.int32), 0).features
    assert windows.shape == (TOTAL, 80, 16)
    assert (windows[80:] == -4).all()  # 2.67 s and later
    assert windows[74].max() > 0  # 2.47 s: dropped by the official script, whose last whole window starts at 2.41 s
    assert heard.gate[10] == 0 and heard.gate[45] == 1 and heard.gate[90] == 0
