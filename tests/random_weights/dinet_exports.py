"""ONNX files for DINet as users would export them: small graphs with the published inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.engines.protocol import TensorTable

Dims = Sequence[int | str]


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
    picture = (batch, 3, 256, 256)
    inputs = [(source, picture), (reference, picture), (speech, (batch, 256, 20))]
    return _write(path, nodes, {**values, **indices}, inputs, [(out, picture)])


def export_wenet(path: Path, *, num_features: int = 256, length_type: int = TensorProto.INT64) -> Path:
    """Writes a stand-in for the WeNet encoder: its subsampling, then a receptive field of 50 rows to either side."""
    made = np.random.default_rng(3)
    nodes = [
        helper.make_node("Transpose", ["feats"], ["mel"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["mel", "w1"], ["half"], strides=[2]),
        helper.make_node("Conv", ["half", "w2"], ["rows"], strides=[2]),
        helper.make_node("Conv", ["rows", "w3"], ["wide"], pads=[50, 50], group=num_features),
        helper.make_node("Add", ["rows", "wide"], ["heard"]),
        helper.make_node("Cast", ["len"], ["length"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["length", "zero"], ["nothing"]),
        helper.make_node("Add", ["heard", "nothing"], ["all"]),
        helper.make_node("Transpose", ["all"], ["out"], perm=[0, 2, 1]),
    ]
    values = {
        "w1": made.normal(0, 0.01, (16, 80, 3)),
        "w2": made.normal(0, 0.1, (num_features, 16, 3)),
        "w3": made.normal(0, 0.02, (num_features, 1, 101)),
        "zero": np.float32(0),
    }
    inputs: list[tuple[str, Dims]] = [("feats", (1, "F", 80)), ("len", (1,))]
    return _write(path, nodes, values, inputs, [("out", (1, "T", num_features))], types={"len": length_type})


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
    inputs: list[tuple[str, Dims]] = [("input_node", (1, "T", 494)), ("input_lengths", (1,))]
    return _write(path, nodes, values, inputs, [("logits", ("T", 1, 29))], types={"input_lengths": TensorProto.INT32})


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
    outputs: list[tuple[str, Dims]] = [(f"o{i}", values[f"v{i}"].shape) for i in range(9)]
    return _write(path, nodes, {**values, "zero": np.float32(0)}, [("images", (1, 3, 640, 640))], outputs)


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
    return _write(path, nodes, values, [("x", (1, 3, 112, 112))], [("pose", (1, 3)), ("marks", (1, 200))])


def table_of(path: Path) -> TensorTable:
    """Returns the shapes in an ONNX file, as the weights store reads them."""
    graph = onnx.load(str(path)).graph
    shapes = [
        tuple(_shape(item) for item in items if item.name not in {value.name for value in graph.initializer})
        for items in (graph.input, graph.output)
    ]
    tensors = {value.name: tuple(value.dims) for value in graph.initializer}
    return TensorTable("onnx", tensors, *shapes)


def _shape(item: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value if dim.dim_value > 0 else -1 for dim in item.type.tensor_type.shape.dim)


def _write(
    path: Path,
    nodes: list[onnx.NodeProto],
    values: Mapping[str, Any],
    inputs: Sequence[tuple[str, Dims]],
    outputs: Sequence[tuple[str, Dims]],
    types: dict[str, int] | None = None,
) -> Path:
    types = types or {}
    infos = [
        [helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), list(dims)) for name, dims in side]
        for side in (inputs, outputs)
    ]
    initialisers = [
        numpy_helper.from_array(np.asarray(value, np.int64 if value.dtype.kind == "i" else np.float32), name)
        for name, value in values.items()
    ]
    graph = helper.make_graph(nodes, "small", infos[0], infos[1], initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
