from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
from onnx import TensorProto
from scipy.signal import lfilter

from classic_weights.dinet_exports import export_deepspeech, export_wenet
from dinet_scenes import make_speech, spans
from lipwright_engines_classic.dinet.deepspeech import (
    DeepSpeechAudioEncoder,
    cepstra,
    mean_and_deviation,
    network_inputs,
)
from lipwright_engines_classic.dinet.deepspeech import num_rows_of as num_letter_rows
from lipwright_engines_classic.dinet.engine import open_measured
from lipwright_engines_classic.dinet.wenet import (
    ExactChunks,
    SharedContext,
    WenetAudioEncoder,
    mel_of_chunk,
    mel_of_file,
    num_rows_of,
)
from models.engines.base import frame_gate
from models.engines.protocol import ComputeResources, FrameSpan
from models.speech.level import measure_level, open_speech

SIX_SECONDS = 96_000
CPU = ComputeResources()
Make = Callable[[str], Any]


@pytest.fixture(scope="module")
def make_encoder(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes the audio encoder of this name."""
    folder = tmp_path_factory.mktemp("encoders")
    wenet, deepspeech = export_wenet(folder / "wenet.onnx"), export_deepspeech(folder / "deepspeech.onnx")
    return {
        "shared": lambda: WenetAudioEncoder(wenet, CPU),
        "exact": lambda: WenetAudioEncoder(wenet, CPU, exact_chunks=True),
        "deepspeech": lambda: DeepSpeechAudioEncoder(deepspeech, CPU),
    }.__getitem__


def test_mel_of_chunk_equals_published_front_end(tmp_path: Path) -> None:
    path, _ = make_speech(tmp_path, SIX_SECONDS)
    samples = open_speech(path)
    padded = np.pad(samples / 32768, 6400).astype(np.float32)
    lifted = lfilter([1, -0.97], [1], padded).astype(np.float32)
    spectrum = librosa.stft(lifted, n_fft=1024, hop_length=160, win_length=800, center=True, pad_mode="reflect")
    bank = librosa.filters.mel(sr=16000, n_fft=1024, n_mels=80, fmin=0, fmax=8000)
    expected = 10 * np.log10((bank @ np.abs(spectrum) ** 2).T + 1e-5) - 20
    assert expected.shape == (681, 80)
    np.testing.assert_allclose(mel_of_chunk(padded), expected, atol=2e-3)
    np.testing.assert_allclose(mel_of_file(samples, 0, 681), expected, atol=2e-3)
    # Equal up to rounding: the order of a sum in BLAS depends on the shape of the matrices.
    np.testing.assert_allclose(mel_of_file(samples, 300, 340), mel_of_file(samples, 0, 681)[300:340], atol=1e-4)


def test_exact_chunks_long_files_equal_published_rows() -> None:
    span = FrameSpan(Fraction(25), 0, 1875, 1875)
    long = ExactChunks.of(75 * 16000, span)
    assert long.num_rows == 2 * 874 + num_rows_of(1 + (75 * 16000 + 12800 - 2 * 560_000) // 160)
    assert int(long.first_rows(span)[-1]) == long.num_rows - 20
    short_tail = ExactChunks.of(560_000 - 12_800 + 5_000, span)
    assert short_tail.num_rows == 874 + num_rows_of(1 + 21_000 // 160) - 25
    piece = short_tail.piece(np.zeros(552_200, np.int16), 1)
    assert (piece.first, piece.stop, len(piece.mel)) == (874, short_tail.num_rows, 132)
    one_frame = ExactChunks.of(640, FrameSpan(Fraction(25), 0, 1, 1))
    assert one_frame.num_frames == 1
    assert one_frame.first_rows(FrameSpan(Fraction(25), 0, 6, 6)).tolist() == [0] * 6


def test_first_rows_are_nearest_in_time() -> None:
    span = FrameSpan(Fraction(25), 0, 150, 150)
    assert num_rows_of(681) == 169
    exact, shared = ExactChunks.of(SIX_SECONDS, span), SharedContext.of(SIX_SECONDS, span)
    assert exact.num_rows == shared.num_rows == 169
    np.testing.assert_array_equal(shared.first_rows(span), np.arange(150))
    np.testing.assert_array_equal(exact.first_rows(span), [int(i / 149 * 149) for i in range(150)])
    span = FrameSpan(Fraction(30000, 1001), 0, 180, 180)
    plan = SharedContext.of(SIX_SECONDS, span)
    assert np.abs(plan.first_rows(span) / 25 - span.seconds).max() <= 0.02 + 1e-9


@pytest.mark.parametrize(
    ("name", "shape"),
    [("shared", (256, 20)), ("exact", (256, 20)), ("deepspeech", (29, 5))],
    ids=lambda each: str(each),
)
def test_encode_in_blocks_gives_same_bytes(
    tmp_path: Path, make_encoder: Make, name: str, shape: tuple[int, int]
) -> None:
    path, level = make_speech(tmp_path, 45 * 16000)
    (span,) = spans(1130, [1130])  # 5 frames more than the file has
    expected = make_encoder(name)().encode(path, level, span)
    assert expected.windows.shape == (1130, *shape)
    assert expected.windows.dtype == expected.gate.dtype == np.float32
    for part in reversed(list(spans(1130, [490, 110, 30, 485, 15]))):
        heard = make_encoder(name)().encode(path, level, part)
        assert heard.windows.tobytes() == expected.windows[part.first : part.stop].tobytes()
        assert heard.gate.tobytes() == expected.gate[part.first : part.stop].tobytes()
    if name == "deepspeech":  # neighbours share rows, and the ends hold on
        np.testing.assert_array_equal(expected.windows[501, :, :4], expected.windows[500, :, 1:])
        np.testing.assert_array_equal(expected.windows[0, :, 0], expected.windows[0, :, 2])
        np.testing.assert_array_equal(expected.windows[1129, :, 0], expected.windows[1129, :, 4])


def test_one_piece_shared_context_equals_exact_chunks(tmp_path: Path, make_encoder: Make) -> None:
    path, level = make_speech(tmp_path, SIX_SECONDS)
    (span,) = spans(150, [150])
    shared, exact = (make_encoder(name)().encode(path, level, span).windows for name in ("shared", "exact"))
    same = [int(i / 149 * 149) == i for i in range(150)]
    np.testing.assert_allclose(shared[same], exact[same], atol=1e-3)


def test_shared_context_borders_do_not_change_rows(tmp_path: Path, make_encoder: Make) -> None:
    """With 50 rows of context on either side, rows at a border equal those of one run over the whole file."""
    path, level = make_speech(tmp_path, 41 * 16000)
    (span,) = spans(1025, [1025])
    audio_encoder = make_encoder("shared")()
    heard = audio_encoder.encode(path, level, span).windows[:, :, 0]  # row i of frame i
    mel = mel_of_file(open_speech(path), 0, 4 * SharedContext.of(level.num_samples, span).num_rows + 3)
    rows = audio_encoder._network(mel[None], np.array([len(mel)]))
    np.testing.assert_allclose(heard[600:650], rows[0, 600:650], atol=1e-4)
    cut = make_encoder("exact")().encode(path, level, span).windows[:, :, 0]
    assert np.abs(cut[840:900] - rows[0, 840:900]).max() > 0.01


def test_wenet_encode_past_end_or_int32_lengths(tmp_path: Path, make_encoder: Make) -> None:
    path, level = make_speech(tmp_path, 32_000)
    (span,) = spans(100, [100])
    for name in ("shared", "exact"):
        heard = make_encoder(name)().encode(path, level, span)
        assert heard.windows.shape == (100, 256, 20) and not heard.gate[60:].any()
        assert heard.gate[:40].any()
    path, level = make_speech(tmp_path, 16_000)
    encoder = export_wenet(tmp_path / "encoder32.onnx", length_type=TensorProto.INT32)
    (span,) = spans(25, [25])
    assert WenetAudioEncoder(encoder, ComputeResources()).encode(path, level, span).windows.shape == (25, 256, 20)


# Of a chirp, by python_speech_features 0.6: mfcc(samples, 16000, numcep=26)[::2].
ROW_3 = [
    *(19.8637570588, 21.7161789086, -1.9636109406, -23.272262322, -33.0152160262, -26.4317291801, -6.9508548964),
    *(12.2804700406, 21.8568698889, 17.1284981328, 4.1738099186, -9.9151485373, -17.3113928602, -15.6120219198),
    *(-8.2985685985, -1.4121268158, 2.9168354332, 3.3539849116, 1.1841066878, -0.6765373549, -0.9815337382),
    *(-0.7735279709, -0.2753929217, 0.1058612981, 0.0711517425, -0.1532250597),
]
LAST_ROW = [22.4791497464, -11.158342131, -32.1866409633, 21.7548770887]


def test_cepstra_equal_python_speech_features() -> None:
    time = np.arange(8077) / 16000
    samples = (9000 * np.sin(2 * np.pi * (300 + 2000 * time) * time)).astype(np.int16)
    assert num_letter_rows(len(samples)) == 25
    np.testing.assert_allclose(cepstra(samples, 3, 4)[0], ROW_3, atol=1e-8)
    np.testing.assert_allclose(cepstra(samples, 24, 25)[0, :4], LAST_ROW, atol=1e-8)


def test_network_inputs_are_normalised_by_whole_file(tmp_path: Path) -> None:
    path, _ = make_speech(tmp_path, 70 * 16000)  # more than a minute: statistics are summed in two parts
    samples = open_speech(path)
    num, statistics = num_letter_rows(len(samples)), mean_and_deviation(samples)
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


def test_deepspeech_encode_in_pieces_equals_one_run(tmp_path: Path, make_encoder: Make) -> None:
    path, level = make_speech(tmp_path, 45 * 16000)
    audio_encoder, samples = make_encoder("deepspeech")(), open_speech(path)
    (span,) = spans(1125, [1125])
    num = num_letter_rows(len(samples))
    inputs = network_inputs(samples, 0, num, mean_and_deviation(samples))
    letters = audio_encoder._network(inputs[None], np.array([num]))
    windows = audio_encoder.encode(path, level, span).windows
    np.testing.assert_allclose(windows[2:1120, :, 2], letters[4:2240:2, 0], atol=1e-4)


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
def test_encode_one_sample_gives_windows(tmp_path: Path, make_encoder: Make, num_samples: int) -> None:
    path, level = make_speech(tmp_path, num_samples)
    for total in (1, 30):
        for name in ("shared", "exact", "deepspeech"):
            windows = make_encoder(name)().encode(path, level, FrameSpan(Fraction(30), 0, total, total)).windows
            assert len(windows) == total
            assert np.isfinite(windows).all()
