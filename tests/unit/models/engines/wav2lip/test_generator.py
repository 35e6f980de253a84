from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from errors import WeightsError
from models.engines.protocol import ComputeResources
from models.engines.runtime.torch_device import fold_batch_norm, half_precision
from models.engines.wav2lip.generator import OnnxGenerator, load_generator
from models.engines.wav2lip.network import Size, Wav2LipNetwork, face_input, load_network
from models.engines.wav2lip.options import Wav2LipOptions
from models.engines.wav2lip.torch_generator import TorchGenerator, sample_faces, sample_windows
from tests.unit.models.engines.reference import fill
from tests.unit.models.engines.wav2lip.networks import made_up_parameters, onnx_result, save_onnx

FULL = Wav2LipOptions(precision="fp32", batch_size=2)


def _inputs(num: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    return sample_faces(num, size), sample_windows(num)


@pytest.fixture(scope="module")
def generator(checkpoint: Path) -> TorchGenerator:
    """In full precision, two faces a batch."""
    found = load_generator(checkpoint, ComputeResources(), FULL)
    assert isinstance(found, TorchGenerator)
    return found


def test_torch_generator_equals_plain_network(generator: TorchGenerator) -> None:
    faces, windows = _inputs(3, 96)
    network = Wav2LipNetwork(96).eval()
    network.load_state_dict(made_up_parameters(96), strict=False)
    hidden = faces.copy()
    hidden[:, 48:] = 0
    seen = torch.from_numpy(np.concatenate([hidden, faces], 3)).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        plain = network(torch.from_numpy(windows)[:, None], seen).permute(0, 2, 3, 1).numpy() * 255
    generated = generator.generate(faces, windows)
    assert np.abs(generated - plain).max() <= 0.51
    assert plain.std() > 5  # it is a picture, not one colour


def test_torch_generator_any_batch_position_gives_same_bytes(generator: TorchGenerator) -> None:
    faces, windows = _inputs(3, 96)
    whole = generator.generate(faces, windows)
    assert np.array_equal(generator.generate(faces[::-1], windows[::-1])[::-1], whole)
    parts = [generator.generate(faces[i : i + 1], windows[i : i + 1]) for i in range(3)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert generator.generate(faces[:0], windows[:0]).shape == (0, 96, 96, 3)


def test_torch_generator_auto_uses_half_if_close(checkpoint: Path, generator: TorchGenerator) -> None:
    if half_precision(torch.device("cpu")) is None:
        pytest.skip("this processor has no fast bfloat16")
    half = TorchGenerator(checkpoint, ComputeResources(), Wav2LipOptions(batch_size=2))
    assert half.dtype == torch.bfloat16
    faces, windows = _inputs(2, 96)
    generated, full = half.generate(faces, windows), generator.generate(faces, windows)
    assert np.abs(generated.astype(int) - full).max() <= 8
    assert np.array_equal(half.generate(faces[::-1], windows[::-1])[::-1], generated)


def test_torch_generator_auto_uses_fp32_if_different(tmp_path: Path) -> None:
    path = tmp_path / "wild.pth"
    torch.save(made_up_parameters(96, gain=1.0), path)
    assert TorchGenerator(path, ComputeResources(), Wav2LipOptions(batch_size=1)).dtype == torch.float32


def test_load_network_detects_size_from_file(tmp_path: Path) -> None:
    path = tmp_path / "w256.pth"
    parameters = made_up_parameters(256)
    torch.save(parameters, path)
    assert load_network(path).size == 256
    parameters.pop("face_decoder_blocks.7.0.conv_block.0.weight")
    torch.save(parameters, path)
    with pytest.raises(
        WeightsError, match=r"w256\.pth: expected a Wav2Lip generator for 256 x 256 with .*, found none"
    ):
        load_network(path)


def test_load_generator_other_file_raises_weights_error(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(WeightsError, match=r"resnet\.pth: expected a Wav2Lip generator"):
        load_generator(path, ComputeResources(), FULL)
    path.write_bytes(b"\x02\0\0\0\0\0\0\0{}")  # safetensors without any
    with pytest.raises(WeightsError, match=r"resnet\.pth: expected tensors by name"):
        load_generator(path, ComputeResources(), FULL)


@pytest.mark.parametrize("changes", [{}, {"face_first": True}, {"batch": 1}, {"batch": 1, "face_first": True}])
def test_onnx_generator_finds_inputs_by_shape(tmp_path: Path, changes: dict[str, Any]) -> None:
    generator = load_generator(save_onnx(tmp_path / "g.bin", **changes), ComputeResources(), FULL)
    assert isinstance(generator, OnnxGenerator)
    assert generator.size == 16
    faces, windows = _inputs(3, 16)
    generated = generator.generate(faces, windows)
    assert np.abs(generated.astype(int) - onnx_result(faces, windows)).max() <= 1
    assert np.array_equal(generator.generate(faces[1:2], windows[1:2]), generated[1:2])


def test_measure_batch_option_keeps_batch_size(tmp_path: Path, checkpoint: Path) -> None:
    options = Wav2LipOptions(precision="fp32", measure_batch=True, batch_size=1)
    assert TorchGenerator(checkpoint, ComputeResources(), options).batch_size == 1
    assert load_generator(save_onnx(tmp_path / "g.onnx"), ComputeResources(), options).size == 16


@pytest.mark.needs_cuda
def test_torch_generator_cuda_equals_cpu(checkpoint: Path, generator: TorchGenerator) -> None:
    faces, windows = _inputs(7, 96)
    expected = generator.generate(faces, windows).astype(int)
    on_gpu = TorchGenerator(checkpoint, ComputeResources("cuda"), FULL)
    generated = on_gpu.generate(faces, windows)
    assert np.abs(generated - expected).max() <= 1
    assert np.array_equal(on_gpu.generate(faces[::-1], windows[::-1])[::-1], generated)


@pytest.mark.needs_cuda
def test_onnx_generator_cuda_equals_cpu(tmp_path: Path) -> None:
    faces, windows = _inputs(3, 16)
    generator = load_generator(save_onnx(tmp_path / "g.onnx"), ComputeResources("cuda"), FULL)
    assert np.abs(generator.generate(faces, windows).astype(int) - onnx_result(faces, windows)).max() <= 1


@pytest.mark.parametrize("size", [96, 256])
def test_wav2lip_network_equals_published(reference: Callable[[str], Any], size: Size) -> None:
    stored = reference(f"wav2lip{size}_core.npz")
    network = Wav2LipNetwork(size).eval()
    published = dict(zip(stored["keys"].tolist(), stored["shapes"].tolist(), strict=True))
    assert {name: ",".join(map(str, tensor.shape)) for name, tensor in network.state_dict().items()} == published
    fill(network, stored)
    mel, faces = torch.from_numpy(stored["mel"])[:, None], torch.from_numpy(stored["faces_u8"])
    step = int(stored["out_stride"])

    def difference() -> float:
        with torch.inference_mode():
            generated: Tensor = network(mel, face_input(faces))
        return float(np.abs(generated[:, :, ::step, ::step].numpy() - stored["out"]).max())

    assert difference() <= 1e-4
    fold_batch_norm(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert difference() <= 1e-4
