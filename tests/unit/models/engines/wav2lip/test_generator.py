from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lipwright.errors import WeightsError
from models.engines.protocol import ComputeResources, Device
from models.engines.runtime.torch_device import fold_batch_norm, half_precision
from models.engines.wav2lip.generator import OnnxGenerator, load_generator
from models.engines.wav2lip.network import Size, Wav2LipNetwork, face_input, load_network
from models.engines.wav2lip.options import Wav2LipOptions
from models.engines.wav2lip.torch_generator import TorchGenerator, sample_faces, sample_windows
from models.engines.wav2lip.weights import GENERATOR_ROLE
from models.engines.weights.inspection import inspect_weights
from tests.unit.models.engines.reference import fill
from tests.unit.models.engines.wav2lip.networks import made_up_parameters, onnx_result, save_onnx

FULL = Wav2LipOptions(precision="fp32", batch_size=2)


@pytest.fixture(scope="module")
def generator(checkpoint: Path) -> TorchGenerator:
    found = load_generator(checkpoint, ComputeResources(), FULL)
    assert isinstance(found, TorchGenerator)
    return found


def test_torch_generator_equals_plain_network(generator: TorchGenerator) -> None:
    faces, windows = sample_faces(3, 96), sample_windows(3)
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
    assert np.array_equal(generator.generate(faces[::-1], windows[::-1])[::-1], generated)
    assert np.array_equal(generator.generate(faces[1:2], windows[1:2]), generated[1:2])
    assert generator.generate(faces[:0], windows[:0]).shape == (0, 96, 96, 3)


def test_torch_generator_auto_uses_half_only_if_close(
    checkpoint: Path, generator: TorchGenerator, tmp_path: Path
) -> None:
    path = tmp_path / "wild.pth"
    torch.save(made_up_parameters(96, gain=1.0), path)
    wild = TorchGenerator(path, ComputeResources(), Wav2LipOptions(batch_size=1))
    assert (wild.dtype, wild.batch_size) == (torch.float32, 1)
    if half_precision(torch.device("cpu")) is None:
        pytest.skip("this processor has no fast bfloat16")
    half = TorchGenerator(checkpoint, ComputeResources(), Wav2LipOptions(batch_size=2))
    assert half.dtype == torch.bfloat16
    faces, windows = sample_faces(2, 96), sample_windows(2)
    generated, full = half.generate(faces, windows), generator.generate(faces, windows)
    assert np.abs(generated.astype(int) - full).max() <= 8
    assert np.array_equal(half.generate(faces[::-1], windows[::-1])[::-1], generated)


def test_load_network_detects_size_and_refuses_other_files(tmp_path: Path) -> None:
    path = tmp_path / "w256.pth"
    parameters = made_up_parameters(256)
    torch.save(parameters, path)
    assert load_network(path).size == 256
    parameters.pop("face_decoder_blocks.7.0.conv_block.0.weight")
    torch.save(parameters, path)
    with pytest.raises(WeightsError, match=r"w256\.pth: expected a Wav2Lip generator for 256 x 256 with .*, found no"):
        load_network(path)
    path = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(WeightsError, match=r"resnet\.pth: expected a Wav2Lip generator"):
        load_generator(path, ComputeResources(), FULL)
    path.write_bytes(b"\x02\0\0\0\0\0\0\0{}")  # safetensors without any
    with pytest.raises(WeightsError, match=r"resnet\.pth: expected tensors by name"):
        load_generator(path, ComputeResources(), FULL)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.needs_cuda)])
@pytest.mark.parametrize("changes", [{}, {"face_first": True}, {"batch": 1}, {"batch": 1, "face_first": True}])
def test_onnx_generator_finds_inputs_by_shape(tmp_path: Path, changes: dict[str, Any], device: Device) -> None:
    generator = load_generator(save_onnx(tmp_path / "g.bin", **changes), ComputeResources(device), FULL)
    assert isinstance(generator, OnnxGenerator)
    assert generator.size == 16
    faces, windows = sample_faces(3, 16), sample_windows(3)
    generated = generator.generate(faces, windows)
    assert np.abs(generated.astype(int) - onnx_result(faces, windows)).max() <= 1
    assert np.array_equal(generator.generate(faces[1:2], windows[1:2]), generated[1:2])


@pytest.mark.needs_cuda
def test_torch_generator_cuda_equals_cpu(checkpoint: Path, generator: TorchGenerator) -> None:
    faces, windows = sample_faces(7, 96), sample_windows(7)
    expected = generator.generate(faces, windows).astype(int)
    on_gpu = TorchGenerator(checkpoint, ComputeResources("cuda"), FULL)
    generated = on_gpu.generate(faces, windows)
    assert np.abs(generated - expected).max() <= 1
    assert np.array_equal(on_gpu.generate(faces[::-1], windows[::-1])[::-1], generated)


@pytest.mark.parametrize("size", [96, 256])
def test_wav2lip_network_equals_published(reference: Callable[[str], Any], size: Size) -> None:
    stored = reference(f"wav2lip{size}_core.npz")
    network = fill(Wav2LipNetwork(size), stored).eval()
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


def test_load_network_reads_accepted_file(checkpoint: Path, tmp_path: Path) -> None:
    """What reads a file when it is added, and what loads it, find the same parameters in it."""
    table = inspect_weights(checkpoint)
    assert GENERATOR_ROLE.mismatch(table) is None
    state = {name: tuple(tensor.shape) for name, tensor in load_network(checkpoint).state_dict().items()}
    assert {name: state[name] for name in table.tensors} == dict(table.tensors)
    converted = tmp_path / "g.safetensors"
    save_file(made_up_parameters(96), converted)
    assert GENERATOR_ROLE.mismatch(inspect_weights(converted)) is None
    assert load_network(converted).size == 96


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the variant for 96 x 96, as training scripts write them."""
    path = tmp_path_factory.mktemp("wav2lip") / "wav2lip.pth"
    parameters = {f"module.{name}": tensor for name, tensor in made_up_parameters(96).items()}
    torch.save({"state_dict": parameters, "optimizer": None, "global_step": 1, "global_epoch": 1}, path)
    return path
