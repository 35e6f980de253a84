"""The encoder and its spectrum against transformers, where that is installed, and against the formula."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.engines.musetalk.audio import WINDOW_ROWS, WhisperAudioEncoder
from models.engines.musetalk.plan import ROWS_PER_FRAME, first_rows
from models.engines.musetalk.whisper import WINDOW_SAMPLES, WhisperEncoder, encoder_tensors, log_mel
from models.engines.protocol import FrameSpan
from models.speech.level import SpeechLevel, measure_level
from tests.unit.models.engines.musetalk.conftest import SMALL_WHISPER


def speech_like(seconds: float, seed: int = 1) -> NDArray[np.float32]:
    """Voiced and noisy stretches with pauses, 16 kHz in [-1, 1)."""
    time = np.arange(int(seconds * 16000)) / 16000
    noise = np.random.default_rng(seed).normal(0, 0.05, len(time))
    voice = 0.3 * np.sin(2 * np.pi * (150 + 20 * np.sin(time)) * time) * (np.sin(2.1 * time) > 0)
    return (voice + noise * (np.sin(3 * time) > 0)).astype(np.float32)


def padded(sound: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.pad(sound, (0, WINDOW_SAMPLES - len(sound))))


def test_log_mel_equals_whisper_formula_for_one_frame() -> None:
    mel = log_mel(padded(speech_like(9.0)))
    assert mel.shape == (80, 3000)
    assert mel.dtype == torch.float32
    # By hand, in double: frame 100 covers 400 samples around sample 16000.
    import librosa

    window = np.hanning(401)[:400]
    piece = speech_like(9.0).astype(np.float64)[16000 - 200 : 16000 + 200] * window
    power = librosa.filters.mel(sr=16000, n_fft=400, n_mels=80) @ np.abs(np.fft.rfft(piece)) ** 2
    wanted = (np.log10(np.maximum(power, 1e-10)) + 4) / 4
    shown = mel[:, 100].numpy()
    floor = float(mel.min())
    assert np.abs(shown - np.maximum(wanted, floor)).max() < 1e-4
    assert floor == pytest.approx(float(mel.max()) - 2.0, abs=1e-6)  # 8 decades, a quarter of each


def test_log_mel_silence_is_flat_and_wrong_length_raises() -> None:
    assert torch.all(log_mel(torch.zeros(WINDOW_SAMPLES)) == -1.5)
    with pytest.raises(ValueError, match="480000"):
        log_mel(torch.zeros(16000))


def test_whisper_encoder_returns_all_states_last_normed(small_whisper: WhisperEncoder) -> None:
    mel = log_mel(padded(speech_like(9.0)))[None]
    with torch.inference_mode():
        states = small_whisper(mel)
        below = states[:, :, 1]
        last = small_whisper.layer_norm(small_whisper.layers[1](below))
        first = small_whisper.layers[0](states[:, :, 0])
    assert states.shape == (1, 1500, SMALL_WHISPER.num_layers + 1, SMALL_WHISPER.width)
    assert torch.allclose(states[:, :, 2], last, atol=1e-6)
    assert torch.allclose(below, first, atol=1e-6)


def test_encoder_tensors_openai_equals_transformers(small_whisper: WhisperEncoder) -> None:
    state = small_whisper.state_dict()
    theirs = {
        "self_attn.q_proj": "attn.query",
        "self_attn.k_proj": "attn.key",
        "self_attn.v_proj": "attn.value",
        "self_attn.out_proj": "attn.out",
        "self_attn_layer_norm": "attn_ln",
        "fc1": "mlp.0",
        "fc2": "mlp.2",
        "final_layer_norm": "mlp_ln",
        "embed_positions.weight": "positional_embedding",
    }
    openai = {}
    for name, tensor in state.items():
        renamed = name.replace("layers.", "blocks.")
        for ours, other in theirs.items():
            renamed = renamed.replace(ours, other) if f".{ours}." in f".{renamed}." else renamed
        openai["encoder." + (renamed.replace("layer_norm.", "ln_post.") if renamed[:5] == "layer" else renamed)] = (
            tensor
        )
    openai["decoder.ln.weight"] = torch.zeros(3)
    for stored in (openai, {f"model.encoder.{name}": tensor for name, tensor in state.items()}):
        found = encoder_tensors(stored)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[name], state[name]) for name in state)


def test_log_mel_equals_transformers() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: nothing to compare with")
    sound = speech_like(9.0)
    theirs = transformers.WhisperFeatureExtractor()(sound, sampling_rate=16000, return_tensors="pt").input_features
    assert torch.allclose(log_mel(padded(sound)), theirs[0], atol=1e-4)


def test_whisper_encoder_equals_transformers() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: nothing to compare with")
    modeling = pytest.importorskip("transformers.models.whisper.modeling_whisper")
    torch.manual_seed(0)
    tiny = transformers.WhisperConfig(
        d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536, decoder_layers=1
    )
    theirs = modeling.WhisperEncoder(tiny).eval()
    ours = WhisperEncoder().eval()
    assert len(ours.state_dict()) == 67
    ours.load_state_dict(encoder_tensors({f"model.encoder.{k}": v for k, v in theirs.state_dict().items()}))
    mel = log_mel(padded(speech_like(9.0)))[None]
    with torch.inference_mode():
        wanted = theirs(mel, output_hidden_states=True).hidden_states
        found = ours(mel)
    assert len(wanted) == 5
    assert torch.allclose(found, torch.stack(wanted, 2), atol=1e-4)


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
