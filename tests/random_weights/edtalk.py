"""A small stand-in for EdTalk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save_edtalk(path: Path, *, side: int = 256, batch: int | str = 1) -> Path:
    """Lightens red by the weight and darkens blue by the mel window's mean; its inputs are in an unusual order."""
    nodes = [
        helper.make_node("ReduceMean", ["sound"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "blue"], ["less"]),
        helper.make_node("Mul", ["share", "red"], ["more"]),
        helper.make_node("Add", ["face", "more"], ["one"]),
        helper.make_node("Sub", ["one", "less"], ["out"]),
    ]
    ports: list[tuple[str, list[int | str]]] = [
        ("share", [1]),
        ("face", [batch, 3, side, side]),
        ("sound", [batch, 1, 80, 16]),
    ]
    colours = {"red": [0.4, 0, 0], "blue": [0, 0, 0.1]}
    arrays = [numpy_helper.from_array(np.array(c, np.float32).reshape(1, 3, 1, 1), name) for name, c in colours.items()]
    graph = helper.make_graph(
        nodes,
        "edtalk",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ports],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [batch, 3, side, side])],
        arrays,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path
