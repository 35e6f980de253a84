from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from classic_weights.ultralight import save_hubert, save_wenet
from lipwright.errors import WeightsError
from lipwright_engines_classic.ultralight import hubert as hubert_module
from lipwright_engines_classic.ultralight.audio import (
    UltralightFeatures,
    UltralightPlan,
    frame_rows,
    num_job_samples,
    wanted_ids,
)
from lipwright_engines_classic.ultralight.hubert import (
    HubertAudioEncoder,
    OnnxHubert,
    load_hubert,
    normal_form,
    num_hubert_rows,
)
from lipwright_engines_classic.ultralight.hubert_network import HubertNetwork, HubertSize, read_hubert
from lipwright_engines_classic.ultralight.weights import AudioKind, Variant, hubert_mismatch
from lipwright_engines_classic.ultralight.wenet import OnnxWenet, WenetAudioEncoder, fbank
from models.engines.protocol import ComputeResources, FrameSpan, TensorTable
from models.speech.level import SpeechLevel, measure_level

SECONDS = 42.0  # three windows of HuBERT
Speech = tuple[Path, SpeechLevel]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Speech:
    path = tmp_path_factory.mktemp("speech") / "speech.npy"
    rng = np.random.default_rng(5)
    loud = np.repeat(rng.uniform(0, 3000, int(SECONDS * 4)), 4000)
    np.save(path, (rng.normal(0, 1, len(loud)) * loud).clip(-30000, 30000).astype(np.int16))
    return path, measure_level(path)


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory) -> OnnxHubert:
    return OnnxHubert(save_hubert(tmp_path_factory.mktemp("hubert") / "hubert.onnx"), ComputeResources())


@pytest.fixture(scope="module")
def wenet(tmp_path_factory: pytest.TempPathFactory) -> OnnxWenet:
    return OnnxWenet(save_wenet(tmp_path_factory.mktemp("wenet") / "encoder.onnx"), ComputeResources())


@pytest.mark.parametrize(
    ("kind", "fps", "total", "cuts"),
    [
        # 18 seconds, where a window ends, lie in frame 539.
        ("hubert", Fraction(30000, 1001), 1259, [530, 545, 560, 700, 1259]),
        ("wenet", Fraction(25), 1050, [1, 2, 9, 14]),
    ],
)
def test_encode_in_spans_gives_same_bytes(
    speech: Speech, hubert: OnnxHubert, wenet: OnnxWenet, kind: AudioKind, fps: Fraction, total: int, cuts: list[int]
) -> None:
    def encode(audio_encoder: Any, first: int, stop: int) -> UltralightFeatures:
        features: UltralightFeatures = audio_encoder.encode(*speech, FrameSpan(fps, first, stop - first, total))
        return features

    def make() -> Any:
        return HubertAudioEncoder(hubert) if kind == "hubert" else WenetAudioEncoder(wenet)

    audio_encoder = make()
    whole = encode(audio_encoder, cuts[0], cuts[-1])
    parts = [encode(audio_encoder, *cut) for cut in pairwise(cuts)]
    for variant in (Variant(kind), Variant(kind, 16)):
        assert np.array_equal(np.concatenate([part.windows(variant) for part in parts]), whole.windows(variant))
    assert np.array_equal(np.concatenate([part.gate for part in parts]), whole.gate)
    assert np.array_equal(encode(make(), *cuts[1:3]).rows, parts[1].rows)
    assert whole.rows.std() > 0


def test_hubert_encode_span_equals_rows_of_whole(speech: Speech, hubert: OnnxHubert) -> None:
    """Also where windows of 18 seconds meet: the margin holds what a row sees beside its own samples."""
    samples = np.load(speech[0]).astype(np.float64) / 32768
    wave = ((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)).astype(np.float32)
    expected = hubert(wave)
    assert len(expected) == num_hubert_rows(len(wave))
    heard = HubertAudioEncoder(hubert).encode(*speech, FrameSpan(Fraction(25), 440, 20, 1050))
    assert heard.ids[0] < 900 < heard.ids[-1]
    assert np.abs(heard.rows - expected[heard.ids]).max() < 1e-4


def test_hubert_encode_past_end_is_silence_before_start_is_empty(speech: Speech, hubert: OnnxHubert) -> None:
    asked: list[int] = []

    def network(wave: NDArray[np.float32]) -> NDArray[np.float32]:
        asked.append(len(wave))
        return hubert(wave)

    audio_encoder = HubertAudioEncoder(network)
    start, *_ = (audio_encoder.encode(*speech, FrameSpan(Fraction(25), first, 2, 1100)) for first in (0, 100, 200))
    assert asked == [(hubert_module._WINDOW_ROWS + hubert_module._MARGIN_ROWS - 1) * 320 + 400], "once"
    windows = start.windows(Variant("hubert"))
    assert not windows[0, :8].any() and windows[0, 8:].any(axis=(1, 2)).all()
    after = audio_encoder.encode(*speech, FrameSpan(Fraction(25), 1070, 4, 1100))
    assert not after.gate.any()
    assert np.ptp(after.rows, axis=0).max() < 1e-5  # silence sounds the same everywhere
    wrong = HubertAudioEncoder(lambda wave: np.zeros((3, 1024), np.float32))
    with pytest.raises(WeightsError, match=r"Expected \(950, 1024\) from HuBERT.*got \(3, 1024\)"):
        wrong.encode(*speech, FrameSpan(Fraction(25), 0, 10, 1050))


def test_onnx_hubert_accepts_mask_short_and_long_speech(tmp_path: Path) -> None:
    network = OnnxHubert(save_hubert(tmp_path / "masked.onnx", with_mask=True), ComputeResources())
    path = tmp_path / "click.npy"
    np.save(path, np.full(50, 1000, np.int16))
    heard = HubertAudioEncoder(network).encode(path, measure_level(path), FrameSpan(Fraction(25), 0, 1, 1))
    assert heard.windows(Variant("hubert")).shape == (1, 16, 32, 32)
    samples = np.random.default_rng(0).integers(-32768, 32768, 3_000_001).astype(np.int16)
    mean, deviation = normal_form(samples)
    assert abs(float(mean) - samples.mean() / 32768) < 1e-9
    assert abs(float(deviation) - np.sqrt((samples / 32768).var() + 1e-7)) < 1e-6


def test_wenet_encode_reads_published_chunks(speech: Speech, wenet: OnnxWenet) -> None:
    """320 ms of silence in front; chunk i holds frames 5 i to 5 i + 67; offset 100, caches 0."""
    samples = np.load(speech[0]).astype(np.float32)
    padded = np.concatenate([np.zeros(32 * 160, np.float32), samples[:40_000]])
    bank = fbank(padded)
    heard = WenetAudioEncoder(wenet).encode(*speech, FrameSpan(Fraction(20), 6, 1, 840))
    windows = heard.windows(Variant("wenet")).reshape(8, 16, 512)
    weight = np.random.default_rng(4).normal(0, 0.1, (67 * 80, 512)).astype(np.float32)
    for member, chunk in enumerate(range(2, 10)):
        expected = bank[5 * chunk : 5 * chunk + 67].reshape(-1) @ weight + 100
        assert np.abs(windows[member] - expected).max() < 1e-2


def test_hubert_network_has_published_names_and_sizes() -> None:
    """Names and shapes of transformers' `HubertModel`, of which 315,437,696 numbers are used."""
    with torch.device("meta"):
        network = HubertNetwork()
    state = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert sum(tensor.numel() for tensor in network.parameters()) == 315_437_696
    assert len(state) == 421
    assert hubert_mismatch(TensorTable("torch", state)) is None
    published = {
        f"hubert.{name}".replace("weight_g", "parametrizations.weight.original0"): s for name, s in state.items()
    }
    assert hubert_mismatch(TensorTable("torch", published)) is None
    del state["encoder.layers.23.attention.k_proj.weight"]
    assert "expected HuBERT large with encoder.layers.23" in str(hubert_mismatch(TensorTable("torch", state)))


def test_read_hubert_reads_speech_recognition_checkpoint(tmp_path: Path) -> None:
    size = HubertSize(num_layers=2, width=64, num_heads=4, num_inner=96, num_channels=32)
    torch.manual_seed(0)
    network = HubertNetwork(size).eval()
    stored = {f"hubert.{name}": tensor for name, tensor in network.state_dict().items()}
    path = tmp_path / "pytorch_model.bin"
    torch.save({**stored, "lm_head.weight": torch.zeros(32, 64), "hubert.masked_spec_embed": torch.zeros(64)}, path)
    wave = torch.randn(1, 8000)
    with torch.inference_mode():
        rows = read_hubert(path, size)(wave)
        assert rows.shape == (1, num_hubert_rows(8000), 64)
        assert torch.equal(rows, network(wave))
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin: expected HuBERT large with feature_extractor"):
        load_hubert(path, ComputeResources())


def test_fbank_equals_kaldi() -> None:
    """Values of kaldi-native-fbank 1.23 (dither 0, 80 bands, snip_edges) for the same samples."""
    n = np.arange(1200)
    samples = (((n * n * 7 + n * 13) % 4001) - 2000).astype(np.float32)
    samples[700:] *= 0.25
    rows = fbank(samples)
    assert rows.shape == (6, 80)
    expected = [
        [12.8454, 13.9204, 14.6742, 19.2904, 20.9754, 22.9125],
        [11.5143, 11.9947, 12.2603, 18.9513, 22.2666, 22.0327],
        [6.9380, 7.3326, 10.8086, 16.4173, 19.0169, 20.1813],
    ]
    assert np.abs(rows[[0, 2, 5]][:, [0, 1, 7, 40, 63, 79]] - expected).max() < 2e-4
    assert abs(float(rows.mean()) - 17.522074) < 1e-4
    assert np.allclose(fbank(np.zeros(800, np.float32)), -15.942385)


def make_heard(audio_kind: AudioKind, span: FrameSpan, num_rows: int) -> UltralightFeatures:
    """Rows that hold their own number plus one, so that zeros are what is not there."""
    ids = wanted_ids(audio_kind, span, num_rows)
    width = 1024 if audio_kind == "hubert" else 16 * 512
    rows = np.repeat((ids + 1).astype(np.float32)[:, None], width, 1)
    return UltralightFeatures(audio_kind, frame_rows(audio_kind, span), ids, rows, np.ones(span.num, np.float32))


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.97, 0.99])
@pytest.mark.parametrize(
    ("kind", "fps", "num", "first", "shape"),
    [("hubert", 25, 100, np.arange(1, 201), (2, 1024)), ("wenet", 20, 40, np.arange(40) * 5 + 1, (16, 512))],
    ids=["hubert", "wenet"],
)
def test_windows_equal_published(
    kind: AudioKind, fps: int, num: int, first: NDArray[np.int64], shape: tuple[int, int], share: float
) -> None:
    """features[i - 4 : i + 4] of (T, 2, 1024) or, chunk i starting at row 5 i, (T, 16, 512); zeros beyond the ends."""
    frame, width = int(share * num), 1024 if kind == "hubert" else 16 * 512
    features = np.repeat(first.astype(np.float32)[:, None], width, 1).reshape(num, *shape)
    beyond = np.zeros((4, *shape))
    padded = np.concatenate([beyond, features, beyond])
    got = make_heard(kind, FrameSpan(Fraction(fps), frame, 1, num), 200).windows(Variant(kind))
    assert np.array_equal(got[0], padded[frame : frame + 8].reshape(got.shape[1:]))
    assert got.shape[1:] == ((16, 32, 32) if kind == "hubert" else (128, 16, 32))


def test_frame_rows_other_rates_keep_time() -> None:
    """After an hour at 29.97 fps the middle of the window still lies within half a row of the frame."""
    span = FrameSpan(Fraction(30000, 1001), 107_892, 3, 200_000)
    for audio_kind, per_second in (("hubert", 50), ("wenet", 100)):
        rows = frame_rows(audio_kind, span)  # type: ignore[arg-type]
        seconds = [float(frame / span.fps) for frame in range(span.first, span.stop)]
        assert np.abs(rows / per_second - seconds).max() <= 0.5 / per_second
    assert num_job_samples(100, FrameSpan(Fraction(25), 0, 1, 2), 16_000) == 1280
    assert num_job_samples(5000, FrameSpan(Fraction(25), 0, 1, 2), 16_000) == 5000


def test_features_slice_keeps_windows_with_fewer_rows() -> None:
    heard = make_heard("hubert", FrameSpan(Fraction(30), 40, 60, 200), 400)
    part = heard.slice(20, 24)
    for variant in (Variant("hubert"), Variant("hubert", 16)):
        assert np.array_equal(part.windows(variant), heard.windows(variant)[20:24])
    assert len(part.rows) < len(heard.rows) / 2 and not np.shares_memory(part.rows, heard.rows)
    assert not make_heard("hubert", FrameSpan(Fraction(25), 50, 2, 52), 0).windows(Variant("hubert")).any()
    with pytest.raises(ValueError, match="Expected sound for 2 frames"):
        UltralightPlan(0, np.zeros(2, np.int32), heard)
    older = make_heard("hubert", FrameSpan(Fraction(25), 30, 1, 100), 200).windows(Variant("hubert", 16))
    assert older.shape == (1, 32, 32, 32)
    assert older[0, :, 0, 0].tolist() == list(range(2 * 22 + 1, 2 * 38 + 1))
