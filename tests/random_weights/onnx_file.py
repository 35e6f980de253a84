"""Writes small ONNX networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str]


def save_network(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Dims],
    outputs: Mapping[str, Dims],
    constants: Mapping[str, Any],
    *,
    types: Mapping[str, int] | None = None,
    opset: int = 13,
) -> Path:
    """Writes a network and returns the path.

    Shapes are by name, in order; a text is a free dimension. Constants are integers or float32; inputs and outputs that
    `types` does not name are float32.
    """
    kinds = types or {}
    given, made = (
        [helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), list(dims)) for name, dims in ports]
        for ports in (inputs.items(), outputs.items())
    )
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    stored = [
        numpy_helper.from_array(array.astype(np.int64 if array.dtype.kind == "i" else np.float32), name)
        for name, array in arrays.items()
    ]
    graph = helper.make_graph(nodes, "small", given, made, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
