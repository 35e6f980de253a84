from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from errors import WeightsError
from models.engines.protocol import ComputeResources
from models.engines.runtime.onnx import OnnxNetwork


def _save(path: Path, kind: int = TensorProto.FLOAT) -> Path:
    """Sum = a + b, and another output that nobody asks for."""
    a = helper.make_tensor_value_info("a", kind, ["batch", 3])
    b = helper.make_tensor_value_info("b", kind, [1, 3])
    outputs = [helper.make_tensor_value_info(name, kind, ["batch", 3]) for name in ("sum", "difference")]
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    opset = [helper.make_opsetid("", 17)]
    onnx.save(
        helper.make_model(helper.make_graph(nodes, "g", [a, b], outputs), opset_imports=opset, ir_version=9), path
    )
    return path


def test_onnx_network_gives_table_and_first_output(tmp_path: Path) -> None:
    network = OnnxNetwork(_save(tmp_path / "n.onnx"), ComputeResources())
    assert network.input_names == ("a", "b")
    assert network.table.inputs == ((-1, 3), (1, 3))
    assert network.table.outputs[0] == (-1, 3)
    a, b = np.ones((4, 3), np.float32), np.full((1, 3), 2, np.float32)
    assert np.array_equal(network.run({"a": a, "b": b}), np.full((4, 3), 3))


def test_onnx_network_other_dtypes_raise(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"float32 .* n\.onnx, found \['tensor\(double\)'\]"):
        OnnxNetwork(_save(tmp_path / "n.onnx", TensorProto.DOUBLE), ComputeResources())


@pytest.mark.needs_cuda
def test_onnx_network_cuda_equals_cpu(tmp_path: Path) -> None:
    import torch

    network = OnnxNetwork(_save(tmp_path / "n.onnx"), ComputeResources("cuda"))
    a, b = torch.rand(4, 3, device="cuda"), torch.rand(1, 3, device="cuda")
    assert torch.equal(network.run_on_cuda({"a": a, "b": b}, (4, 3)), a + b)
