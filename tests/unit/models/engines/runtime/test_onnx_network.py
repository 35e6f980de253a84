from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from errors import WeightsError
from models.engines.protocol import ComputeResources, TensorTable
from models.engines.runtime.onnx import OnnxNetwork
from tests.random_weights.onnx_file import Dims, save_network


def _save(path: Path, kind: int = TensorProto.FLOAT) -> Path:
    """Sum = a + b, and another output that nobody asks for."""
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    outputs: dict[str, Dims] = dict.fromkeys(("sum", "difference"), ("batch", 3))
    types = dict.fromkeys(("a", "b", *outputs), kind)
    return save_network(path, nodes, {"a": ("batch", 3), "b": (1, 3)}, outputs, {}, types=types, opset=17)


def _fits(table: TensorTable) -> str | None:
    return None


def test_onnx_network_gives_table_and_outputs(tmp_path: Path) -> None:
    network = OnnxNetwork(_save(tmp_path / "n.onnx"), ComputeResources(), _fits)
    assert network.table.inputs == ((-1, 3), (1, 3))
    assert network.table.outputs[0] == (-1, 3)
    a, b = np.ones((4, 3), np.float32), np.full((1, 3), 2, np.float32)
    assert np.array_equal(network(a, b), np.full((4, 3), 3))
    assert [each[0, 0] for each in network.run_all(a, b)] == [3, -1]


def test_onnx_network_other_dtypes_are_converted(tmp_path: Path) -> None:
    network = OnnxNetwork(_save(tmp_path / "n.onnx", TensorProto.DOUBLE), ComputeResources(), _fits)
    assert not network.is_float32
    assert network(np.ones((4, 3), np.float32), np.ones((1, 3), np.float32)).dtype == np.float32
    with pytest.raises(WeightsError, match=r"n\.onnx: expected inputs of .*, found tensor\(uint8\)"):
        OnnxNetwork(_save(tmp_path / "n.onnx", TensorProto.UINT8), ComputeResources(), _fits)


def test_onnx_network_mismatch_raises_weights_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"^n\.onnx: expected something else\.$"):
        OnnxNetwork(_save(tmp_path / "n.onnx"), ComputeResources(), lambda table: "expected something else")


@pytest.mark.needs_cuda
def test_onnx_network_cuda_equals_cpu(tmp_path: Path) -> None:
    import torch

    network = OnnxNetwork(_save(tmp_path / "n.onnx"), ComputeResources("cuda"), _fits)
    a, b = torch.rand(4, 3, device="cuda"), torch.rand(1, 3, device="cuda")
    assert torch.equal(network.run_on_cuda((a, b), (4, 3)), a + b)
