from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import librosa
import numpy as np
import pytest
from onnx import TensorProto
from scipy.signal import lfilter

from models.engines.dinet.wenet import (
    ExactChunks,
    SharedContext,
    WenetAudioEncoder,
    mel_of_chunk,
    mel_of_file,
    num_rows_of,
)
from models.engines.protocol import ComputeResources, FrameSpan
from models.speech.level import open_speech
from tests.random_weights.dinet_exports import export_wenet
from tests.unit.models.engines.dinet.scenes import make_speech, spans

SIX_SECONDS = 96_000


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_wenet(tmp_path_factory.mktemp("wenet") / "encoder.onnx")


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
    assert int(long.first_rows(np.array([1874]))[0]) == long.num_rows - 20
    short_tail = ExactChunks.of(560_000 - 12_800 + 5_000, span)
    assert short_tail.num_rows == 874 + num_rows_of(1 + 21_000 // 160) - 25
    piece = short_tail.piece(np.zeros(552_200, np.int16), 1)
    assert (piece.first, piece.stop, len(piece.mel)) == (874, short_tail.num_rows, 132)
    one_frame = ExactChunks.of(640, FrameSpan(Fraction(25), 0, 1, 1))
    assert one_frame.num_frames == 1
    assert one_frame.first_rows(np.array([0, 5])).tolist() == [0, 0]


def test_first_rows_are_nearest_in_time() -> None:
    span = FrameSpan(Fraction(25), 0, 150, 150)
    assert num_rows_of(681) == 169
    exact, shared = ExactChunks.of(SIX_SECONDS, span), SharedContext.of(SIX_SECONDS, span)
    assert exact.num_rows == shared.num_rows == 169
    frames = np.arange(150)
    np.testing.assert_array_equal(shared.first_rows(frames), frames)
    np.testing.assert_array_equal(exact.first_rows(frames), [int(i / 149 * 149) for i in range(150)])
    plan, frames = SharedContext.of(SIX_SECONDS, FrameSpan(Fraction(30000, 1001), 0, 180, 180)), np.arange(180)
    assert np.abs(plan.first_rows(frames) / 25 - frames * 1001 / 30000).max() <= 0.02 + 1e-9


@pytest.mark.parametrize("exact", [False, True])
def test_wenet_encode_in_blocks_gives_same_bytes(tmp_path: Path, encoder: Path, exact: bool) -> None:
    path, level = make_speech(tmp_path, 41 * 16000)
    whole = WenetAudioEncoder(encoder, ComputeResources(), exact_chunks=exact)
    (span,) = spans(1025, [1025])
    expected = whole.encode(path, level, span)
    assert expected.windows.shape == (1025, 256, 20)
    assert expected.windows.dtype == expected.gate.dtype == np.float32
    for part in reversed(list(spans(1025, [600, 30, 200, 195]))):
        heard = WenetAudioEncoder(encoder, ComputeResources(), exact_chunks=exact).encode(path, level, part)
        assert heard.windows.tobytes() == expected.windows[part.first : part.stop].tobytes()
        assert heard.gate.tobytes() == expected.gate[part.first : part.stop].tobytes()


def test_one_piece_shared_context_equals_exact_chunks(tmp_path: Path, encoder: Path) -> None:
    path, level = make_speech(tmp_path, SIX_SECONDS)
    (span,) = spans(150, [150])
    shared = WenetAudioEncoder(encoder, ComputeResources()).encode(path, level, span).windows
    exact = WenetAudioEncoder(encoder, ComputeResources(), exact_chunks=True).encode(path, level, span).windows
    same = [int(i / 149 * 149) == i for i in range(150)]
    np.testing.assert_allclose(shared[same], exact[same], atol=1e-3)


def test_shared_context_borders_do_not_change_rows(tmp_path: Path, encoder: Path) -> None:
    """With 50 rows of context on either side, rows at a border equal those of one run over the whole file."""
    path, level = make_speech(tmp_path, 41 * 16000)
    (span,) = spans(1025, [1025])
    audio_encoder = WenetAudioEncoder(encoder, ComputeResources())
    heard = audio_encoder.encode(path, level, span).windows[:, :, 0]  # row i of frame i
    plan = SharedContext.of(level.num_samples, span)
    mel = mel_of_file(open_speech(path), 0, 4 * plan.num_rows + 3)
    rows = audio_encoder._network(mel[None], np.array([len(mel)]))
    np.testing.assert_allclose(heard[600:650], rows[0, 600:650], atol=1e-4)
    exact = WenetAudioEncoder(encoder, ComputeResources(), exact_chunks=True)
    cut = exact.encode(path, level, span).windows[:, :, 0]
    assert np.abs(cut[840:900] - rows[0, 840:900]).max() > 0.01


def test_wenet_encode_past_end_reads_silence(tmp_path: Path, encoder: Path) -> None:
    path, level = make_speech(tmp_path, 32_000)
    (span,) = spans(100, [100])
    heard = WenetAudioEncoder(encoder, ComputeResources()).encode(path, level, span)
    assert not heard.gate[60:].any()
    assert heard.gate[:40].any()
    exact = WenetAudioEncoder(encoder, ComputeResources(), exact_chunks=True).encode(path, level, span)
    assert exact.windows.shape == (100, 256, 20)


def test_wenet_encoder_accepts_int32_lengths(tmp_path: Path) -> None:
    path, level = make_speech(tmp_path, 16_000)
    encoder = export_wenet(tmp_path / "encoder32.onnx", length_type=TensorProto.INT32)
    (span,) = spans(25, [25])
    assert WenetAudioEncoder(encoder, ComputeResources()).encode(path, level, span).windows.shape == (25, 256, 20)
