"""A small stand-in for GFPGAN."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from models.engines.restoration.restorer import SIDE
from tests.random_weights.onnx_file import Dims, save_network


def save_restoration(path: Path, *, with_number: bool = False) -> Path:
    """Doubles the contrast around 0, that is around 127.5; a second input is added to green."""
    nodes = [helper.make_node("Mul", ["face", "two"], ["twice"])]
    inputs: dict[str, Dims] = {"face": ("n", 3, SIDE, SIDE)}
    if with_number:
        inputs["w"] = (1,)
        nodes += [
            helper.make_node("Cast", ["w"], ["number"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["number", "green"], ["more"]),
            helper.make_node("Add", ["twice", "more"], ["out"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["twice"], ["out"]))
    constants = {"two": [2.0], "green": np.reshape([0.0, 1, 0], (1, 3, 1, 1))}
    return save_network(path, nodes, inputs, {"out": ("n", "c", "h", "w")}, constants, types={"w": TensorProto.DOUBLE})
