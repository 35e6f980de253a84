from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from models.engines.protocol import TensorTable
from models.engines.runtime.checkpoints import shapes_of
from models.engines.wav2lip.network import Size, load_network, network_without_values
from models.engines.wav2lip.weights import GENERATOR_ROLE, onnx_roles
from models.engines.weights.inspection import inspect_weights
from tests.unit.models.engines.wav2lip.networks import made_up_parameters, save_onnx

MEL, FACE, OUT = (-1, 1, 80, 16), (-1, 6, 96, 96), (-1, 3, 96, 96)


def _mismatch(tensors: dict[str, tuple[int, ...]]) -> str | None:
    return GENERATOR_ROLE.mismatch(TensorTable("torch", tensors))


@pytest.mark.parametrize("size", [96, 256])
def test_wav2lip_role_accepts_published_checkpoint(size: Size) -> None:
    shapes = shapes_of(network_without_values(size))
    assert _mismatch(shapes) is None
    assert _mismatch({**shapes, "output_block.0.conv_block.1.num_batches_tracked": ()}) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"output_block.1.bias": None}, "96 x 96 with output_block.1.bias (3,), found none"),
        ({"output_block.1.weight": (3, 32, 3, 3)}, "output_block.1.weight (3, 32, 1, 1), found (3, 32, 3, 3)"),
        ({"face_decoder_blocks.9.0.weight": (1,)}, "found 1 more, as face_decoder_blocks.9.0.weight"),
    ],
)
def test_wav2lip_role_other_file_reports_expected_and_found(change: dict[str, Any], words: str) -> None:
    shapes = {**shapes_of(network_without_values(96)), **change}
    found = _mismatch({name: shape for name, shape in shapes.items() if shape is not None})
    assert found is not None
    assert words in found
    assert "expected a Wav2Lip generator" in str(_mismatch({"conv1.weight": (64, 3, 7, 7)}))


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
    export = save_onnx(tmp_path / "g.onnx", face_first=True)
    assert GENERATOR_ROLE.mismatch(inspect_weights(export)) is None


@pytest.mark.parametrize(
    ("inputs", "output"),
    [
        ((MEL, FACE), OUT),
        ((FACE, MEL), OUT),
        (((1, 1, 80, 16), (1, 6, 256, 256)), (1, 3, 256, 256)),
        ((MEL, (-1, 6, 288, 288)), (-1, -1, -1, -1)),
    ],
)
def test_wav2lip_role_accepts_exports_by_shape(inputs: Any, output: Any) -> None:
    assert GENERATOR_ROLE.mismatch(TensorTable("onnx", {}, inputs, (output,))) is None
    roles = onnx_roles(inputs, output)
    assert roles is not None
    assert {role: shape[1] for role, shape in zip(roles, inputs, strict=True)} == {"mel": 1, "face": 6}


@pytest.mark.parametrize(
    ("inputs", "output"),
    [
        ((), ()),
        ((FACE,), OUT),
        ((MEL, FACE, (1,)), OUT),
        ((MEL, (-1, 3, 96, 96)), OUT),
        (((-1, 1, 80, 20), FACE), OUT),
        ((MEL, (-1, 6, -1, -1)), OUT),
        ((MEL, (-1, 6, 96, 128)), OUT),
        ((MEL, FACE), (-1, 1, 96, 96)),
        ((MEL, FACE), (-1, 3, 48, 48)),
        (((2, 1, 80, 16), FACE), OUT),
    ],
)
def test_wav2lip_role_other_export_reports_expected_and_found(inputs: Any, output: Any) -> None:
    found = GENERATOR_ROLE.mismatch(TensorTable("onnx", {}, inputs, (output,)))
    assert found is not None
    assert "(B, 6, S, S)" in found
    assert all(str(shape) in found for shape in inputs)
