import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.weights import weights_path
from models.weights.onnx_session import make_session
from training.export_speech import ENCODER_NAME, LIVE_ENCODER_NAME, MOUTH_NAME, main, quantise, read_mouth, read_state
from training.speech_network import MAX_ROWS, NUM_FEATURES, TAPS, MouthEnsemble, MouthTcn
from training.whisper_encoder import NUM_HEADS, WIDTH, WhisperTaps


@pytest.fixture(scope="module")
def shipped() -> tuple[WhisperTaps, MouthEnsemble]:
    encoder = WhisperTaps(TAPS, MAX_ROWS).eval()
    encoder.load_state_dict(read_state(weights_path(ENCODER_NAME), encoder))
    return encoder, read_mouth(weights_path(MOUTH_NAME))


@pytest.mark.parametrize("num_frames", [2, 90, 2 * MAX_ROWS])
def test_shipped_networks_equal_torch_definitions(shipped: tuple[WhisperTaps, MouthEnsemble], num_frames: int) -> None:
    mel = np.random.default_rng(2).normal(0, 0.4, (1, num_frames, 80)).astype(np.float32)
    with torch.no_grad():
        features = shipped[0](torch.from_numpy(mel))
        expected = [output.numpy() for output in shipped[1](features)]
    first = make_session(weights_path(ENCODER_NAME), num_threads=1, device="cpu")
    second = make_session(weights_path(MOUTH_NAME), num_threads=1, device="cpu")
    found = second.run(None, {"features": first.run(None, {"mel": mel})[0]})
    assert features.shape == (1, num_frames // 2, NUM_FEATURES)
    assert [output.shape for output in found] == [(1, num_frames // 2, 9), (1, num_frames // 2, 576)]
    assert all(np.abs(ours - its).max() < 1e-3 for ours, its in zip(found, expected, strict=True))


def _write_ctranslate2(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("<IH", 6, 12) + b"WhisperSpec\0" + struct.pack("<II", 3, len(arrays)))
        for name, array in arrays.items():
            file.write(struct.pack("<H", len(name) + 1) + name.encode() + b"\0" + struct.pack("<B", array.ndim))
            code = {"float16": 4, "int16": 2}[array.dtype.name]
            file.write(struct.pack(f"<{array.ndim}IBI", *array.shape, code, array.nbytes) + array.tobytes())


def _as_ctranslate2(encoder: WhisperTaps) -> dict[str, NDArray[np.generic]]:
    """The encoder's parameters under the names that CTranslate2 gives them."""
    renamed = {"attention_norm": "self_attention/layer_norm", "qkv": "self_attention/linear_0"}
    renamed |= {"out": "self_attention/linear_1", "mlp_norm": "ffn/layer_norm"}
    renamed |= {"grow": "ffn/linear_0", "shrink": "ffn/linear_1"}
    arrays: dict[str, NDArray[np.generic]] = {"encoder/num_heads": np.array(NUM_HEADS, np.int16)}
    for name, value in encoder.state_dict().items():
        parts = name.split(".")
        if parts[0] == "positions":
            longer = np.zeros((1500 - len(value), WIDTH), np.float16)
            arrays["encoder/position_encodings/encodings"] = np.concatenate([value.numpy().astype(np.float16), longer])
            continue
        kind = parts[-1]
        if "norm" in name:
            kind = {"weight": "gamma", "bias": "beta"}[kind]
        place = f"layer_{parts[1]}/{renamed[parts[2]]}" if parts[0] == "layers" else parts[0]
        arrays[f"encoder/{place}/{kind}"] = value.numpy().astype(np.float16)
    return arrays


def test_export_writes_the_shipped_weights(tmp_path: Path, shipped: tuple[WhisperTaps, MouthEnsemble]) -> None:
    _write_ctranslate2(tmp_path / "model.bin", _as_ctranslate2(shipped[0]))
    torch.save(shipped[1].state_dict(), tmp_path / "trained.pt")
    with pytest.warns(DeprecationWarning):  # torch prefers its newer exporter, which renames parameters
        main("encoder", tmp_path / "model.bin", tmp_path)
        main("mouth", tmp_path / "trained.pt", tmp_path)
    for name, network in zip((ENCODER_NAME, MOUTH_NAME), shipped, strict=True):
        state = read_state(tmp_path / name, network)
        assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_mouth_network_is_linear_and_keeps_its_first_head(shipped: tuple[WhisperTaps, MouthEnsemble]) -> None:
    mouth, state = shipped[1], shipped[1].state_dict()
    members = range(len(mouth.members))
    heads = torch.cat([state[f"members.{i}.head.weight"][..., 0] for i in members], 1) / len(members) ** 0.5
    bias = torch.stack([state[f"members.{i}.head.bias"] for i in members]).mean(0)
    torch.manual_seed(4)
    trained, gain, features = MouthTcn(num_heads=2).eval(), torch.linspace(0.5, 2, 8), torch.randn(1, 50, NUM_FEATURES)
    with torch.no_grad():
        shape, hidden = mouth(features)
        both, first = trained(features), trained.with_first_head(gain).eval()(features)
    assert torch.allclose(hidden @ heads.T + bias, shape, atol=1e-3)
    assert first.shape == (1, 50, 9)
    assert torch.allclose(first[..., :8], both[..., :8] * gain, atol=1e-5)
    assert torch.allclose(first[..., 8], both[..., 8], atol=1e-5)


def test_quantise_writes_the_shipped_live_encoder(tmp_path: Path) -> None:
    written = tmp_path / LIVE_ENCODER_NAME
    quantise(weights_path(ENCODER_NAME), written)
    assert [file.name for file in tmp_path.iterdir()] == [written.name]
    mel = np.random.default_rng(2).normal(0, 0.4, (1, 180, 80)).astype(np.float32)
    exact, shipped, again = (
        make_session(path, num_threads=1, device="cpu").run(None, {"mel": mel})[0]
        for path in (weights_path(ENCODER_NAME), weights_path(LIVE_ENCODER_NAME), written)
    )
    assert np.array_equal(shipped, again)
    assert 0.99 < np.corrcoef(exact.ravel(), shipped.ravel())[0, 1] < 1
