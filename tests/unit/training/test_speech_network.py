import struct
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from models.mouth.shape import CHANNELS
from models.weights import weights_path
from models.weights.onnx_session import make_session
from training.corners import WidthFit, with_corners, with_width_head
from training.export_speech import CPU_ENCODER_NAME, ENCODER_NAME, MOUTH_NAME, main, quantise, read_mouth
from training.speech_examples import Example
from training.speech_network import MAX_ROWS, NUM_FEATURES, TAPS, MouthEnsemble, MouthTcn
from training.whisper_encoder import NUM_HEADS, WIDTH, WhisperTaps, load_whisper


def _read_state(path: Path, network: nn.Module) -> dict[str, Tensor]:
    stored = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    return {name: torch.tensor(numpy_helper.to_array(stored[name])).float() for name in network.state_dict()}


@pytest.fixture(scope="module")
def shipped() -> tuple[WhisperTaps, MouthEnsemble]:
    encoder = WhisperTaps(TAPS, MAX_ROWS).eval()
    encoder.load_state_dict(_read_state(weights_path(ENCODER_NAME), encoder))
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
        kind = {"weight": "gamma", "bias": "beta"}[parts[-1]] if "norm" in name else parts[-1]
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
        state = _read_state(tmp_path / name, network)
        assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_load_weights_of_another_network_is_refused(tmp_path: Path) -> None:
    _write_ctranslate2(tmp_path / "model.bin", {"decoder/embeddings": np.zeros((3, 2), np.float16)})
    with pytest.raises(ValueError, match="Whisper"):
        load_whisper(tmp_path / "model.bin", WhisperTaps(TAPS, MAX_ROWS))
    (tmp_path / "model.bin").write_bytes(struct.pack("<I", 3))
    with pytest.raises(ValueError, match="version"):
        load_whisper(tmp_path / "model.bin", WhisperTaps(TAPS, MAX_ROWS))


def test_whisper_tap_is_the_output_of_its_layer(shipped: tuple[WhisperTaps, MouthEnsemble]) -> None:
    mel = torch.randn(1, 60, 80, generator=torch.Generator().manual_seed(1)) * 0.4
    before = WhisperTaps((TAPS[0] - 1, TAPS[0]), MAX_ROWS)
    before.load_state_dict({k: shipped[0].state_dict()[k] for k in before.state_dict()})
    with torch.no_grad():
        both = before(mel)
        layer = before.layers[TAPS[0] - 1](both[..., :WIDTH])
        assert torch.equal(layer, both[..., WIDTH:])
        assert torch.allclose(layer, shipped[0](mel)[..., :WIDTH], atol=1e-5)


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
    assert torch.allclose(first, both[..., :9] * torch.cat([gain, torch.ones(1)]), atol=1e-5)


def test_quantise_writes_the_shipped_cpu_encoder(tmp_path: Path) -> None:
    written = tmp_path / CPU_ENCODER_NAME
    quantise(weights_path(ENCODER_NAME), written)
    assert [file.name for file in tmp_path.iterdir()] == [written.name]
    mel = np.random.default_rng(2).normal(0, 0.4, (1, 180, 80)).astype(np.float32)
    exact, shipped, again = (
        make_session(path, num_threads=1, device="cpu").run(None, {"mel": mel})[0]
        for path in (weights_path(ENCODER_NAME), weights_path(CPU_ENCODER_NAME), written)
    )
    assert np.array_equal(shipped, again)
    assert 0.99 < np.corrcoef(exact.ravel(), shipped.ravel())[0, 1] < 1


MOUTH_WIDTH = CHANNELS.index("width")
CORNERS = [CHANNELS.index(name) for name in ("width", "protrude", "corner_y")]


@pytest.fixture
def network() -> MouthEnsemble:
    torch.manual_seed(2)
    return MouthEnsemble().eval()


def _examples(network: MouthEnsemble, names: list[str], sign: float) -> list[Example]:
    """Speakers whose width is a part of the hidden layer."""
    rng, examples = np.random.default_rng(len(names)), []
    for name in names:
        features = rng.normal(size=(120, NUM_FEATURES)).astype(np.float16)
        with torch.no_grad():
            hidden = network(torch.from_numpy(features[None].astype(np.float32)))[1][0].numpy()
        mouth = np.zeros((120, 9), np.float32)
        layer = hidden - hidden.mean(0)
        mouth[:, MOUTH_WIDTH] = sign * 3 * layer[:, :40].sum(1) / layer[:, :40].sum(1).std()
        examples.append(Example("clean", name, features, mouth))
    return examples


def _widths(network: MouthEnsemble, example: Example) -> NDArray[np.float32]:
    with torch.no_grad():
        shape = network(torch.from_numpy(example.features[None].astype(np.float32)))[0]
    return np.asarray(shape[0, :, MOUTH_WIDTH], np.float32)


def test_with_width_head_changes_only_the_width(network: MouthEnsemble) -> None:
    seen, unseen = _examples(network, ["a", "b", "c", "d", "e"], 1), _examples(network, ["z"], 1)[0]
    refitted = with_width_head(network, WidthFit(network, [seen], [1]).solve())
    before, after = (np.corrcoef(_widths(n, unseen), unseen.mouth[:, MOUTH_WIDTH])[0, 1] for n in (network, refitted))
    assert after > 0.6 > before + 0.2
    features = torch.from_numpy(unseen.features[None].astype(np.float32))
    with torch.no_grad():
        old, new = network(features), refitted(features)
    others = [channel for channel in range(9) if channel != MOUTH_WIDTH]
    assert torch.equal(old[0][..., others], new[0][..., others]) and torch.equal(old[1], new[1])


def test_width_fit_weights_corpora_and_skips_left_out_speaker(network: MouthEnsemble) -> None:
    wide, narrow = _examples(network, ["a", "b"], 1), _examples(network, ["c"], -1)
    mostly_wide = WidthFit(network, [wide, narrow], [0.9, 0.1])
    rows, truth = mostly_wide.hidden(wide[0]), wide[0].mouth[:, MOUTH_WIDTH]
    mostly_narrow = WidthFit(network, [wide, narrow], [0.1, 0.9])
    assert np.corrcoef(rows @ mostly_wide.solve(), truth)[0, 1] > 0.6
    assert np.corrcoef(rows @ mostly_narrow.solve(), truth)[0, 1] < -0.2
    assert not np.allclose(mostly_narrow.solve(), mostly_narrow.solve(left_out="b"))


def test_with_corners_averages_the_corner_channels_only() -> None:
    torch.manual_seed(3)
    base, added = MouthEnsemble().eval(), [MouthTcn().eval() for _ in range(2)]
    joined = with_corners(base, added)
    features = torch.randn(1, 90, NUM_FEATURES)
    with torch.no_grad():
        before, after = base(features), joined(features)
        every = torch.stack([member(features) for member in (*base.members, *added)]).mean(0)
    others = [output for output in range(9) if output not in CORNERS]
    assert torch.allclose(after[0][..., others], before[0][..., others], atol=1e-5)
    assert torch.allclose(after[0][..., CORNERS], every[..., CORNERS], atol=1e-5)
    assert after[1].shape == (1, 90, 5 * 96)
    # Speaker adaptation counts on a hidden layer of the same norm, however many networks there are.
    assert 0.5 < after[1].square().sum() / before[1].square().sum() < 2
