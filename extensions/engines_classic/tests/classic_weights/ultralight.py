"""Ultralight: the generator in its published sizes, and small ONNX stand-ins for its audio encoders."""

from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, helper

from lipwright_engines_classic.ultralight.network import UltralightNetwork
from lipwright_engines_classic.ultralight.weights import AudioKind
from models.engines.runtime.checkpoints import shapes_of
from tests.random_weights.onnx_file import Dims, save_network
from tests.random_weights.parameters import made_up


def save_ultralight(path: Path, audio_kind: AudioKind = "hubert", width: int = 32) -> Path:
    """Writes a generator checkpoint in the format of the training script."""
    with torch.device("meta"):
        shapes = shapes_of(UltralightNetwork(audio_kind, width=width))
    torch.save(made_up(shapes), path)
    return path


def save_hubert(path: Path, *, with_mask: bool = False) -> Path:
    """Stand-in for HuBERT: row r depends on samples 320 r to 320 r + 400 and on its two neighbours."""
    kernel = np.random.default_rng(3).normal(0, 0.05, (1024, 1, 400)).astype(np.float32)
    nodes = [
        helper.make_node("Unsqueeze", ["wave", "axis"], ["channel"]),
        helper.make_node("Conv", ["channel", "kernel"], ["rows"], strides=[320]),
        helper.make_node("AveragePool", ["rows"], ["near"], kernel_shape=[3], pads=[1, 1], count_include_pad=0),
        helper.make_node("Transpose", ["near"], ["output"], perm=[0, 2, 1]),
    ]
    inputs: dict[str, Dims] = {"wave": (1, "size")}
    if with_mask:
        inputs = {"mask": (1, "size"), **inputs}
        nodes[0] = helper.make_node("Unsqueeze", ["heard", "axis"], ["channel"])
        nodes = [
            helper.make_node("Cast", ["mask"], ["share"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["wave", "share"], ["heard"]),
            *nodes,
        ]
    constants = {"kernel": kernel, "axis": [1]}
    outputs: dict[str, Dims] = {"output": (1, "time", 1024)}
    return save_network(path, nodes, inputs, outputs, constants, types={"mask": TensorProto.INT64})


def save_wenet(path: Path) -> Path:
    """Stand-in for the encoder: sums of the chunk's bands, the offset and the caches, distinguishable by magnitude."""
    weight = np.random.default_rng(4).normal(0, 0.1, (67 * 80, 512)).astype(np.float32)
    nodes = [
        helper.make_node("Reshape", ["a", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "weight"], ["mixed"]),
        helper.make_node("Expand", ["mixed", "shape"], ["chunks"]),
        helper.make_node("ReduceSum", ["b", "all_b"], ["att"], keepdims=0),
        helper.make_node("ReduceSum", ["c", "all_c"], ["cnn"], keepdims=0),
        helper.make_node("Cast", ["d"], ["offset"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["chunks", "offset"], ["one"]),
        helper.make_node("Add", ["one", "att"], ["two"]),
        helper.make_node("Add", ["two", "cnn"], ["output"]),
    ]
    inputs = {"c": (3, 1, 512, 14), "d": (1,), "a": (1, 1, 67, 80), "b": (3, 8, 16, 128)}
    numbers = {"flat": [1, 67 * 80], "shape": [1, 16, 512], "all_b": [0, 1, 2, 3], "all_c": [0, 1, 2, 3]}
    constants = {**numbers, "weight": weight}
    return save_network(path, nodes, inputs, {"output": (1, 16, 512)}, constants, types={"d": TensorProto.INT64})


def save_generator(path: Path, batch: int | str = 1) -> Path:
    """Stand-in for the generator: the reference's colours, darkened by the masked picture and the audio mean."""
    nodes = [
        helper.make_node("Slice", ["x", "zero", "three", "one"], ["reference"]),
        helper.make_node("Slice", ["x", "three", "six", "one"], ["masked"]),
        helper.make_node("ReduceMean", ["sound"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["masked", "half"], ["less"]),
        helper.make_node("Sub", ["reference", "less"], ["dark"]),
        helper.make_node("Sub", ["dark", "mean"], ["y"]),
    ]
    inputs: dict[str, Dims] = {"sound": (batch, 16, 32, 32), "x": (batch, 6, 160, 160)}
    constants = {"zero": [0], "three": [3], "six": [6], "one": [1], "half": [0.5]}
    return save_network(path, nodes, inputs, {"y": (batch, 3, 160, 160)}, constants)
