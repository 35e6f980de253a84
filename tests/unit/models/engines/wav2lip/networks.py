"""Generators with weights that nobody trained: files as users bring them, the same in every run."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor

from models.engines.runtime.checkpoints import shapes_of
from models.engines.wav2lip.network import Size, network_without_values
from tests.random_weights.onnx_file import Dims, save_network
from tests.random_weights.parameters import made_up


def made_up_parameters(size: Size, gain: float = 0.7) -> dict[str, Tensor]:
    """Every parameter of a generator; with a gain of .7 it tolerates half precision, with 1 it does not."""
    return made_up(shapes_of(network_without_values(size)), gain)


def save_onnx(path: Path, size: int = 16, batch: int | str = "batch", *, face_first: bool = False) -> Path:
    """Save a small network with a generator's inputs and output: brighter faces for louder speech."""
    nodes = [
        helper.make_node("ReduceMean", ["what_is_said"], ["loud"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Sub", ["loud", "silence"], ["louder"]),
        helper.make_node("Mul", ["louder", "scale"], ["glow"]),
        helper.make_node("Slice", ["who", "from", "to", "axis"], ["seen"]),
        helper.make_node("Slice", ["who", "zero", "from", "axis"], ["hidden"]),
        helper.make_node("Mul", ["hidden", "hidden_share"], ["some"]),
        helper.make_node("Sub", ["seen", "some"], ["mixed"]),
        helper.make_node("Add", ["mixed", "glow"], ["shown"]),
    ]
    constants = {"zero": [0], "from": [3], "to": [6], "axis": [1]}
    numbers = {"hidden_share": 0.25, "scale": 0.2, "silence": -4.0}
    mel: dict[str, Dims] = {"what_is_said": (batch, 1, 80, 16)}
    face: dict[str, Dims] = {"who": (batch, 6, size, size)}
    inputs = face | mel if face_first else mel | face
    outputs: dict[str, Dims] = {"shown": (batch, 3, size, size)}
    return save_network(path, nodes, inputs, outputs, {**constants, **numbers})


def onnx_result(faces: NDArray[np.uint8], windows: NDArray[np.float32]) -> NDArray[np.uint8]:
    """What the network of `save_onnx` makes of (N, S, S, 3) uint8 BGR and (N, 80, 16)."""
    seen = faces.astype(np.float64) / 255
    hidden = seen.copy()
    hidden[:, faces.shape[1] // 2 :] = 0
    shown = seen - hidden / 4 + 0.2 * (windows.mean((1, 2), dtype=np.float64) + 4)[:, None, None, None]
    return np.asarray(np.rint(shown * 255).clip(0, 255), np.uint8)
