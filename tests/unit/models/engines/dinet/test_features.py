from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from models.engines.base import frame_gate
from models.engines.dinet.audio import open_measured
from models.engines.dinet.deepspeech import DeepSpeechAudioEncoder
from models.engines.dinet.wenet import WenetAudioEncoder
from models.engines.protocol import AudioEncoder, ComputeResources, FrameSpan
from models.speech.level import measure_level, open_speech
from tests.random_weights.dinet_exports import export_deepspeech, export_wenet
from tests.unit.models.engines.dinet.scenes import make_speech


def test_open_measured_overwritten_file_has_new_key(tmp_path: Path) -> None:
    path, level = make_speech(tmp_path, 16_000)
    _, first = open_measured(path, level)
    assert open_measured(path, level)[1] == first
    louder = np.asarray(open_speech(path)) // 2
    path.unlink()
    np.save(path, louder)
    assert open_measured(path, measure_level(path))[1] != first


def test_frame_gate_any_rate_gives_gate_of_frames(tmp_path: Path) -> None:
    path = tmp_path / "speech.npy"
    sound = np.zeros(48_000, np.int16)
    sound[16_000:24_000] = 8000 * np.sin(np.arange(8000) * 0.1)
    np.save(path, sound)
    level = measure_level(path)
    for fps in (Fraction(25), Fraction(30000, 1001), Fraction(60)):
        total = int(4 * fps)
        gate = frame_gate(sound, level, FrameSpan(fps, 0, total, total))
        seconds = np.arange(total) / float(fps)
        assert gate[(seconds > 1.05) & (seconds < 1.5)].min() == 1
        assert gate[(seconds < 0.4) | (seconds > 2.0)].max() == 0
        part = frame_gate(sound, level, FrameSpan(fps, 20, 15, total))
        np.testing.assert_array_equal(part, gate[20:35])


@pytest.mark.parametrize("num_samples", [1, 100, 640, 3199, 16_001])
def test_encode_one_sample_gives_windows(tmp_path: Path, num_samples: int) -> None:
    path, level = make_speech(tmp_path, num_samples)
    wenet, deepspeech = export_wenet(tmp_path / "wenet.onnx"), export_deepspeech(tmp_path / "deepspeech.onnx")
    audio_encoders: list[AudioEncoder] = [
        WenetAudioEncoder(wenet, ComputeResources()),
        WenetAudioEncoder(wenet, ComputeResources(), exact_chunks=True),
        DeepSpeechAudioEncoder(deepspeech, ComputeResources()),
    ]
    for total in (1, 30):
        for audio_encoder in audio_encoders:
            windows = audio_encoder.encode(path, level, FrameSpan(Fraction(30), 0, total, total)).windows
            assert len(windows) == total
            assert np.isfinite(windows).all()
