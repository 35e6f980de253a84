"""A small stand-in for EdTalk."""

from pathlib import Path

import numpy as np
from onnx import helper

from tests.random_weights.onnx_file import Dims, save_network


def save_edtalk(path: Path, *, side: int = 256) -> Path:
    """Lightens red by the weight and darkens blue by the mel window's mean; its inputs are in an unusual order."""
    nodes = [
        helper.make_node("ReduceMean", ["sound"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "blue"], ["less"]),
        helper.make_node("Mul", ["share", "red"], ["more"]),
        helper.make_node("Add", ["face", "more"], ["one"]),
        helper.make_node("Sub", ["one", "less"], ["out"]),
    ]
    picture: Dims = (1, 3, side, side)
    inputs: dict[str, Dims] = {"share": (1,), "face": picture, "sound": (1, 1, 80, 16)}
    colours = {"red": [0.4, 0, 0], "blue": [0, 0, 0.1]}
    constants = {name: np.reshape(colour, (1, 3, 1, 1)) for name, colour in colours.items()}
    return save_network(path, nodes, inputs, {"out": picture}, constants)
