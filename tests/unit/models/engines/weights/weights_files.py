"""Weights files for tests: sound ones, damaged ones, and ones that mean harm."""

import json
import os
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

SHAPES = {"face.weight": (4, 6, 3, 3), "face.bias": (4,)}


def state(shapes: Mapping[str, tuple[int, ...]] = SHAPES, prefix: str = "") -> dict[str, torch.Tensor]:
    numbers = torch.Generator().manual_seed(5)
    return {prefix + name: torch.rand(shape, generator=numbers) for name, shape in shapes.items()}


def torch_file(path: Path, checkpoint: Any = None, *, is_zip: bool = True) -> Path:
    torch.save(state() if checkpoint is None else checkpoint, path, _use_new_zipfile_serialization=is_zip)
    return path


def safetensors_file(path: Path, shapes: Mapping[str, tuple[int, ...]] = SHAPES, *, fill: int = 0) -> Path:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, shape in shapes.items():
        stop = place + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [place, stop]}
        place = stop
    return raw_safetensors(path, json.dumps(header), place, fill)


def raw_safetensors(path: Path, header: str, num_data_bytes: int, fill: int = 0) -> Path:
    text = header.encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes([fill]) * num_data_bytes)
    return path


def onnx_model(*, ir_version: int = 10, nested: onnx.TensorProto | None = None) -> onnx.ModelProto:
    """A mel (B, 1, 80, 16) and a face (B, 6, 96, 96) in, (B, 3, 96, 96) out."""
    weight = numpy_helper.from_array(np.ones((3, 6, 1, 1), np.float32), "module.w")
    bias = helper.make_tensor("b", TensorProto.FLOAT, (3,), [0.5, 1.5, 2.5])
    nodes = [
        helper.make_node("ReduceMean", ["mel"], ["level"], keepdims=1),
        helper.make_node("Conv", ["face", "module.w", "b"], ["mixed"]),
        helper.make_node("Add", ["mixed", "level"], ["out"]),
    ]
    if nested is not None:
        nodes.append(helper.make_node("Constant", [], ["unused"], value=nested))
    shapes: dict[str, list[Any]] = {"mel": ["batch", 1, 80, 16], "face": ["batch", 6, 96, 96]}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    if ir_version < 4:
        inputs += [helper.make_tensor_value_info(each.name, TensorProto.FLOAT, each.dims) for each in (weight, bias)]
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, 3, 96, 96])
    graph = helper.make_graph(nodes, "toy", inputs, [output], [weight, bias])
    return helper.make_model(graph, ir_version=ir_version, opset_imports=[helper.make_opsetid("", 17)])


def onnx_file(path: Path, model: onnx.ModelProto | None = None) -> Path:
    path.write_bytes((model or onnx_model()).SerializeToString())
    return path


def external_onnx(path: Path, location: str, *, num_bytes: int = 72) -> Path:
    """The weight of `onnx_model` lies in `location`, which is not written."""
    model = onnx_model()
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(num_bytes))):
        weight.external_data.add(key=key, value=value)
    return onnx_file(path, model)


class Harm:
    """Makes a folder when it is unpickled by somebody who runs what a pickle asks for."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self._target),)


class Glutton:
    """Asks for 100 GB, with a callable that torch allows."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return bytearray, (10**11,)
