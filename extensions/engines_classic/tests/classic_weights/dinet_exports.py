"""ONNX files for DINet as users would export them: small graphs with the published inputs and outputs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.random_weights.onnx_file import Dims, save_network


def export_generator(path: Path, *, batch: int | str = "B", names: tuple[str, ...] = ("a", "b", "c", "d")) -> Path:
    """Writes a stand-in for HeyGem's generator: .6 of the masked crop, .3 of the whole one, the rest from speech."""
    source, reference, speech, out = names
    nodes = [
        helper.make_node("Mul", [source, "six"], ["own"]),
        helper.make_node("Mul", [reference, "three"], ["seen"]),
        helper.make_node("ReduceMean", [speech, "axes"], ["mean"], keepdims=1),
        helper.make_node("Sigmoid", ["mean"], ["said"]),
        helper.make_node("Mul", ["said", "one"], ["voice"]),
        helper.make_node("Unsqueeze", ["voice", "last"], ["voice4"]),
        helper.make_node("Add", ["own", "seen"], ["both"]),
        helper.make_node("Add", ["both", "voice4"], [out]),
    ]
    values = {"six": np.float32(0.6), "three": np.float32(0.3), "one": np.float32(0.1)}
    indices = {"axes": np.array([1, 2]), "last": np.array([3])}
    picture: Dims = (batch, 3, 256, 256)
    inputs: dict[str, Dims] = {source: picture, reference: picture, speech: (batch, 256, 20)}
    return save_network(path, nodes, inputs, {out: picture}, {**values, **indices}, opset=18)


def export_wenet(path: Path, *, length_type: int = TensorProto.INT64) -> Path:
    """Writes a stand-in for the WeNet encoder: its subsampling, then a receptive field of 50 rows to either side."""
    made = np.random.default_rng(3)
    nodes = [
        helper.make_node("Transpose", ["feats"], ["mel"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["mel", "w1"], ["half"], strides=[2]),
        helper.make_node("Conv", ["half", "w2"], ["rows"], strides=[2]),
        helper.make_node("Conv", ["rows", "w3"], ["wide"], pads=[50, 50], group=256),
        helper.make_node("Add", ["rows", "wide"], ["heard"]),
        helper.make_node("Cast", ["len"], ["length"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["length", "zero"], ["nothing"]),
        helper.make_node("Add", ["heard", "nothing"], ["all"]),
        helper.make_node("Transpose", ["all"], ["out"], perm=[0, 2, 1]),
    ]
    values = {
        "w1": made.normal(0, 0.01, (16, 80, 3)),
        "w2": made.normal(0, 0.1, (256, 16, 3)),
        "w3": made.normal(0, 0.02, (256, 1, 101)),
        "zero": np.float32(0),
    }
    inputs: dict[str, Dims] = {"feats": (1, "F", 80), "len": (1,)}
    outputs: dict[str, Dims] = {"out": (1, "T", 256)}
    return save_network(path, nodes, inputs, outputs, values, types={"len": length_type}, opset=18)


def export_deepspeech(path: Path) -> Path:
    """Writes a stand-in for DeepSpeech 0.1 with a receptive field of 20 steps to either side."""
    made = np.random.default_rng(4)
    nodes = [
        helper.make_node("MatMul", ["input_node", "w1"], ["letters"]),
        helper.make_node("Transpose", ["letters"], ["by_letter"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["by_letter", "w2"], ["wide"], pads=[20, 20], group=29),
        helper.make_node("Cast", ["input_lengths"], ["length"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["length", "zero"], ["nothing"]),
        helper.make_node("Add", ["wide", "nothing"], ["all"]),
        helper.make_node("Transpose", ["all"], ["logits"], perm=[2, 0, 1]),
    ]
    values = {"w1": made.normal(0, 0.1, (494, 29)), "w2": made.normal(0, 0.3, (29, 1, 41)), "zero": np.float32(0)}
    inputs: dict[str, Dims] = {"input_node": (1, "T", 494), "input_lengths": (1,)}
    types = {"input_lengths": TensorProto.INT32}
    return save_network(path, nodes, inputs, {"logits": ("T", 1, 29)}, values, types=types, opset=18)


def export_detector(path: Path, boxes: Sequence[tuple[float, float, float, float, float]]) -> Path:
    """Writes a stand-in for SCRFD that always finds the given boxes (x0, y0, x1, y1, score in 640 x 640)."""
    scores, edges, points = [], [], []
    for stride in (8, 16, 32):
        side = 640 // stride
        scores.append(np.zeros((side * side * 2, 1), np.float32))
        edges.append(np.zeros((side * side * 2, 4), np.float32))
        points.append(np.zeros((side * side * 2, 10), np.float32))
    for i, (x0, y0, x1, y1, score) in enumerate(boxes):
        stride, side = 16, 40
        column, row = int((x0 + x1) / 2 / stride), int((y0 + y1) / 2 / stride)
        anchor = (row * side + column) * 2 + i % 2
        x, y = column * stride, row * stride
        scores[1][anchor] = score
        edges[1][anchor] = np.array([x - x0, y - y0, x1 - x, y1 - y]) / stride
    values = {f"v{i}": value for i, value in enumerate((*scores, *edges, *points))}
    # The input is used, multiplied by 0: a graph with an unused input would be a different one.
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        *(helper.make_node("Add", [f"v{i}", "nothing"], [f"o{i}"]) for i in range(9)),
    ]
    outputs = {f"o{i}": values[f"v{i}"].shape for i in range(9)}
    constants = {**values, "zero": np.float32(0)}
    return save_network(path, nodes, {"images": (1, 3, 640, 640)}, outputs, constants, opset=18)


def export_landmarks(path: Path, points: NDArray[np.floating]) -> Path:
    """Writes a stand-in for PFPLD that returns (98, 2) points, moved right by the mean blue of its input."""
    flat = np.concatenate([points.reshape(-1), np.zeros(4)])[None].astype(np.float32)
    right = np.concatenate([np.tile([1.0, 0.0], 98), np.zeros(4)])[None].astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["colours"], keepdims=0),
        helper.make_node("Gather", ["colours", "first"], ["blue"], axis=1),
        helper.make_node("Mul", ["blue", "right"], ["moved"]),
        helper.make_node("Add", ["moved", "points"], ["marks"]),
        helper.make_node("Identity", ["colours"], ["pose"]),
    ]
    values = {"points": flat, "right": right, "axes": np.array([2, 3]), "first": np.array([0])}
    outputs = {"pose": (1, 3), "marks": (1, 200)}
    return save_network(path, nodes, {"x": (1, 3, 112, 112)}, outputs, values, opset=18)
