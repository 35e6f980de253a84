"""Converts the branch for the lips of MediaPipe's mesh with attention to ONNX.

    pip install tflite
    python -m training.convert_lip_landmarks face_landmark_with_attention.tflite FOLDER

The file lies in the package mediapipe 0.10.21, under modules/face_landmark (Apache-2.0, Google). What is kept: the
layers from the picture to the first features, the crop of the lips out of them, and the layers from there to the 80
points. Where the crop lies is an input, as the face is known where the network is used; in the original the other
layers find it. Weights stay float16 in the file and are computed with in float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import tflite
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

NAME = "lip_landmarks_80.onnx"
_NUM_POINTS, _CROP_SIDE, _PICTURE_SIDE = 80, 16, 192
_LAST, _CROP = "conv_lips", "TransformTensorBilinear"
_OPSET = 17
_TYPES = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
}


class _Operator(NamedTuple):
    name: str
    inputs: list[int]
    output: int
    options: Any


class _Source:
    """The TFLite file: its operators, and the constants among its tensors."""

    def __init__(self, content: bytes) -> None:
        self._model = tflite.Model.GetRootAsModel(content, 0)
        self._graph = self._model.Subgraphs(0)
        names = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}
        self.operators: dict[int, _Operator] = {}  # by the tensor that they make
        for number in range(self._graph.OperatorsLength()):
            operator = self._graph.Operators(number)
            code = self._model.OperatorCodes(operator.OpcodeIndex())
            name = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            if name == "CUSTOM":
                name = code.CustomCode().decode()
            output = int(operator.Outputs(0))
            inputs = [int(operator.Inputs(place)) for place in range(operator.InputsLength())]
            self.operators[output] = _Operator(name, inputs, output, operator.BuiltinOptions())

    def tensor(self, name: str) -> int:
        """The number of a tensor."""
        return next(n for n in range(self._graph.TensorsLength()) if self._graph.Tensors(n).Name().decode() == name)

    def shape(self, tensor: int) -> list[int]:
        """Batch, rows, columns, channels."""
        return [int(side) for side in self._graph.Tensors(tensor).ShapeAsNumpy()]

    def constant(self, tensor: int) -> NDArray[Any] | None:
        """A constant; None for what is computed."""
        made_by = self.operators.get(tensor)
        if made_by is not None and made_by.name == "DEQUANTIZE":
            return self.constant(made_by.inputs[0])
        description = self._graph.Tensors(tensor)
        buffer = self._model.Buffers(description.Buffer())
        if not buffer.DataLength():
            return None
        values = np.frombuffer(buffer.DataAsNumpy().tobytes(), _TYPES[description.Type()])
        return values.reshape(self.shape(tensor))

    def needed_for(self, tensor: int) -> list[_Operator]:
        """The operators between the picture and a tensor, in their order; the crop's place is not looked for."""
        needed: dict[int, _Operator] = {}
        open_tensors = [tensor]
        while open_tensors:
            operator = self.operators.get(open_tensors.pop())
            if operator is None or operator.output in needed or self.constant(operator.output) is not None:
                continue
            needed[operator.output] = operator
            open_tensors += operator.inputs[:1] if operator.name == _CROP else operator.inputs
        return [operator for operator in self.operators.values() if operator.output in needed]


class _Target:
    """The ONNX graph that is made, channels before rows and columns."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def write(self, path: Path) -> None:
        last = self._source.tensor(_LAST)
        operators = self._source.needed_for(last)
        self._add("Transpose", ["picture"], operators[0].inputs[0], perm=[0, 3, 1, 2])
        for operator in operators:
            self._convert(operator)
        shape = self._constant("shape", np.array([1, _NUM_POINTS, 2], np.int64))
        self._nodes.append(helper.make_node("Reshape", [_name(last), shape], ["lips"]))
        sides = {"picture": [1, _PICTURE_SIDE, _PICTURE_SIDE, 3], "grid": [1, _CROP_SIDE, _CROP_SIDE, 2]}
        graph = helper.make_graph(
            self._nodes,
            "lips",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, side) for name, side in sides.items()],
            [helper.make_tensor_value_info("lips", TensorProto.FLOAT, [1, _NUM_POINTS, 2])],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)

    def _convert(self, operator: _Operator) -> None:
        source, name = operator.inputs[0], operator.name
        if name == _CROP:
            inputs = [_name(source), "grid"]
            self._add("GridSample", inputs, operator.output, align_corners=1, mode="bilinear", padding_mode="zeros")
        elif name == "CONV_2D":
            self._convolution(operator, tflite.Conv2DOptions(), (0, 3, 1, 2))
        elif name == "DEPTHWISE_CONV_2D":
            self._convolution(operator, tflite.DepthwiseConv2DOptions(), (3, 0, 1, 2))
        elif name == "PRELU":
            slope = self._weights(operator.inputs[1], lambda values: values.reshape(-1, 1, 1))
            self._add("PRelu", [_name(source), slope], operator.output)
        elif name == "ADD":
            self._add("Add", [_name(tensor) for tensor in operator.inputs], operator.output)
        elif name == "MAX_POOL_2D":
            options = tflite.Pool2DOptions()
            options.Init(operator.options.Bytes, operator.options.Pos)
            kernel = [options.FilterHeight(), options.FilterWidth()]
            self._add("MaxPool", [_name(source)], operator.output, **self._window(source, kernel, options))
        elif name == "PAD":
            margins = self._source.constant(operator.inputs[1])
            assert margins is not None
            both = margins[[0, 3, 1, 2]].T.ravel().astype(np.int64)
            self._add("Pad", [_name(source), self._constant(f"margins{operator.output}", both)], operator.output)
        else:
            raise ValueError(f"Expected a layer of the branch for the lips, got {name}.")

    def _convolution(self, operator: _Operator, options: Any, order: tuple[int, ...]) -> None:
        options.Init(operator.options.Bytes, operator.options.Pos)
        weights = self._source.constant(operator.inputs[1])
        assert weights is not None and options.FusedActivationFunction() == tflite.ActivationFunctionType.NONE
        inputs = [
            _name(operator.inputs[0]),
            self._weights(operator.inputs[1], lambda values: values.transpose(order)),
            self._weights(operator.inputs[2], lambda values: values),
        ]
        window = self._window(operator.inputs[0], list(weights.shape[1:3]), options)
        groups = weights.shape[3] if operator.name == "DEPTHWISE_CONV_2D" else 1
        self._add("Conv", inputs, operator.output, group=groups, **window)

    def _window(self, source: int, kernel: list[int], options: Any) -> dict[str, list[int]]:
        """Kernel, strides and margins; TFLite puts the odd margin behind."""
        strides = [options.StrideH(), options.StrideW()]
        margins = [0, 0]
        if options.Padding() == tflite.Padding.SAME:
            sides = self._source.shape(source)[1:3]
            margins = [
                max((-(-side // stride) - 1) * stride + size - side, 0)
                for side, stride, size in zip(sides, strides, kernel, strict=True)
            ]
        before = [margin // 2 for margin in margins]
        after = [margin - part for margin, part in zip(margins, before, strict=True)]
        return {"kernel_shape": kernel, "strides": strides, "pads": [*before, *after]}

    def _weights(self, tensor: int, arrange: Any) -> str:
        """A constant in float16, cast to what is computed with."""
        values = self._source.constant(tensor)
        assert values is not None
        stored = self._constant(f"weights{tensor}", np.ascontiguousarray(arrange(values)))
        if values.dtype == np.float32:
            return stored
        self._nodes.append(helper.make_node("Cast", [stored], [f"{stored}_float"], to=TensorProto.FLOAT))
        return f"{stored}_float"

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        self._constants.append(numpy_helper.from_array(values, name))
        return name

    def _add(self, kind: str, inputs: list[str], output: int, **attributes: Any) -> None:
        self._nodes.append(helper.make_node(kind, inputs, [_name(output)], **attributes))


def _name(tensor: int) -> str:
    return f"tensor{tensor}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the TFLite file and writes the network into FOLDER."""
    parser = argparse.ArgumentParser(description="Convert MediaPipe's network for the lips.")
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    _Target(_Source(options.source.read_bytes())).write(options.folder / NAME)


if __name__ == "__main__":
    main()
