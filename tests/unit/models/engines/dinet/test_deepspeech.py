from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.engines.base import frame_gate
from models.engines.dinet.deepspeech import (
    DeepSpeechAudioEncoder,
    cepstra,
    mean_and_deviation,
    network_inputs,
    num_rows_of,
)
from models.engines.dinet.engine import open_measured
from models.engines.dinet.wenet import WenetAudioEncoder
from models.engines.protocol import AudioEncoder, ComputeResources, FrameSpan
from models.speech.level import measure_level, open_speech
from tests.random_weights.dinet_exports import export_deepspeech, export_wenet
from tests.unit.models.engines.dinet.scenes import make_speech, spans

# Of `_chirp`, by python_speech_features 0.6: mfcc(samples, 16000, numcep=26)[::2].
ROW_3 = [
    *(19.8637570588, 21.7161789086, -1.9636109406, -23.272262322, -33.0152160262, -26.4317291801, -6.9508548964),
    *(12.2804700406, 21.8568698889, 17.1284981328, 4.1738099186, -9.9151485373, -17.3113928602, -15.6120219198),
    *(-8.2985685985, -1.4121268158, 2.9168354332, 3.3539849116, 1.1841066878, -0.6765373549, -0.9815337382),
    *(-0.7735279709, -0.2753929217, 0.1058612981, 0.0711517425, -0.1532250597),
]
LAST_ROW = [22.4791497464, -11.158342131, -32.1866409633, 21.7548770887]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_deepspeech(tmp_path_factory.mktemp("deepspeech") / "deepspeech.onnx")


def test_cepstra_equal_python_speech_features() -> None:
    samples = _chirp()
    assert num_rows_of(len(samples)) == 25
    np.testing.assert_allclose(cepstra(samples, 3, 4)[0], ROW_3, atol=1e-8)
    np.testing.assert_allclose(cepstra(samples, 24, 25)[0, :4], LAST_ROW, atol=1e-8)


def test_network_inputs_are_normalised_by_whole_file(tmp_path: Path) -> None:
    path, _ = make_speech(tmp_path, 70 * 16000)  # more than a minute: statistics are summed in two parts
    samples = open_speech(path)
    num, statistics = num_rows_of(len(samples)), mean_and_deviation(samples)
    inputs = network_inputs(samples, 0, num, statistics)
    assert inputs.shape == (num, 494)
    assert abs(float(inputs.mean(dtype=np.float64))) < 1e-6
    assert abs(float(inputs.std(dtype=np.float64)) - 1) < 1e-6
    # The middle of a step's 19 rows is its own; before the file there are zeros.
    mean, deviation = statistics
    own = (cepstra(samples, 0, 1)[0] - mean) / deviation
    np.testing.assert_allclose(inputs[0, 9 * 26 : 10 * 26], own, atol=1e-5)
    np.testing.assert_allclose(inputs[0, : 9 * 26], -mean / deviation, atol=1e-5)
    assert network_inputs(samples, 500, 520, statistics).tobytes() == inputs[500:520].tobytes()


def test_deepspeech_encode_in_blocks_gives_same_bytes(tmp_path: Path, network: Path) -> None:
    path, level = make_speech(tmp_path, 45 * 16000)
    (span,) = spans(1130, [1130])  # 5 frames more than the file has
    expected = DeepSpeechAudioEncoder(network, ComputeResources()).encode(path, level, span)
    assert expected.windows.shape == (1130, 29, 5)
    for part in reversed(list(spans(1130, [490, 25, 600, 15]))):
        heard = DeepSpeechAudioEncoder(network, ComputeResources()).encode(path, level, part)
        assert heard.windows.tobytes() == expected.windows[part.first : part.stop].tobytes()
    # Neighbours share rows, and the ends hold on.
    np.testing.assert_array_equal(expected.windows[501, :, :4], expected.windows[500, :, 1:])
    np.testing.assert_array_equal(expected.windows[0, :, 0], expected.windows[0, :, 2])
    np.testing.assert_array_equal(expected.windows[1129, :, 0], expected.windows[1129, :, 4])


def test_deepspeech_encode_in_pieces_equals_one_run(tmp_path: Path, network: Path) -> None:
    path, level = make_speech(tmp_path, 45 * 16000)
    audio_encoder, samples = DeepSpeechAudioEncoder(network, ComputeResources()), open_speech(path)
    (span,) = spans(1125, [1125])
    num = num_rows_of(len(samples))
    inputs = network_inputs(samples, 0, num, mean_and_deviation(samples))
    letters = audio_encoder._network(inputs[None], np.array([num]))
    windows = audio_encoder.encode(path, level, span).windows
    np.testing.assert_allclose(windows[2:1120, :, 2], letters[4:2240:2, 0], atol=1e-4)


def _chirp() -> NDArray[np.int16]:
    time = np.arange(8077) / 16000
    return (9000 * np.sin(2 * np.pi * (300 + 2000 * time) * time)).astype(np.int16)


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
