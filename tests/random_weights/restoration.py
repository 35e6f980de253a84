"""A small stand-in for GFPGAN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.engines.restoration.restorer import SIDE


def save_restoration(path: Path, *, side: int = SIDE, with_number: bool = False) -> Path:
    """Doubles the contrast around 0, that is around 127.5; a second input is added to green."""
    nodes = [helper.make_node("Mul", ["face", "two"], ["twice"])]
    ports: list[tuple[str, int, list[int | str]]] = [("face", TensorProto.FLOAT, ["n", 3, side, side])]
    if with_number:
        ports.append(("w", TensorProto.DOUBLE, [1]))
        nodes += [
            helper.make_node("Cast", ["w"], ["number"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["number", "green"], ["more"]),
            helper.make_node("Add", ["twice", "more"], ["out"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["twice"], ["out"]))
    arrays = {"two": np.array([2], np.float32), "green": np.array([0, 1, 0], np.float32).reshape(1, 3, 1, 1)}
    graph = helper.make_graph(
        nodes,
        "restoration",
        [helper.make_tensor_value_info(*port) for port in ports],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", "c", "h", "w"])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path
