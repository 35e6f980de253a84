"""Converts layers of TFLite files to ONNX: what the converters of MediaPipe's networks share.

Needs the package `tflite`. Weights stay float16 in the file and are computed with in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnx
import tflite
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_OPSET = 17
_TYPES = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
}
# One ONNX operator with the same inputs.
_SAME = {"RELU": "Relu", "HARD_SWISH": "HardSwish", "LOGISTIC": "Sigmoid", "ADD": "Add", "MUL": "Mul"}


class Operator(NamedTuple):
    """A layer: its kind, the tensors that it takes and makes, and its options in the file."""

    name: str
    inputs: list[int]
    output: int
    options: Any


class TfliteGraph:
    """A TFLite file: its operators, and the constants among its tensors."""

    def __init__(self, content: bytes) -> None:
        self._model = tflite.Model.GetRootAsModel(content, 0)
        self._graph = self._model.Subgraphs(0)
        names = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}
        self.operators: dict[int, Operator] = {}  # by the tensor that they make
        for number in range(self._graph.OperatorsLength()):
            operator = self._graph.Operators(number)
            code = self._model.OperatorCodes(operator.OpcodeIndex())
            name = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            if name == "CUSTOM":
                name = code.CustomCode().decode()
            output = int(operator.Outputs(0))
            inputs = [int(operator.Inputs(place)) for place in range(operator.InputsLength())]
            self.operators[output] = Operator(name, inputs, output, operator.BuiltinOptions())

    @property
    def output(self) -> int:
        """The number of the tensor that the network returns."""
        return int(self._graph.Outputs(0))

    def tensor(self, name: str) -> int:
        """Returns the number of a tensor."""
        return next(n for n in range(self._graph.TensorsLength()) if self._graph.Tensors(n).Name().decode() == name)

    def shape(self, tensor: int) -> list[int]:
        """Returns batch, rows, columns, channels."""
        return [int(side) for side in self._graph.Tensors(tensor).ShapeAsNumpy()]

    def constant(self, tensor: int) -> NDArray[Any] | None:
        """Returns a constant; None for what is computed."""
        made_by = self.operators.get(tensor)
        if made_by is not None and made_by.name == "DEQUANTIZE":
            return self.constant(made_by.inputs[0])
        description = self._graph.Tensors(tensor)
        buffer = self._model.Buffers(description.Buffer())
        if not buffer.DataLength():
            return None
        values = np.frombuffer(buffer.DataAsNumpy().tobytes(), _TYPES[description.Type()])
        return values.reshape(self.shape(tensor))

    def needed_for(self, tensor: int, followed: Mapping[str, int] = MappingProxyType({})) -> list[Operator]:
        """Returns the operators between the picture and a tensor, in their order.

        `followed` limits how many inputs of a kind of operator are followed.
        """
        needed: dict[int, Operator] = {}
        open_tensors = [tensor]
        while open_tensors:
            operator = self.operators.get(open_tensors.pop())
            if operator is None or operator.output in needed or self.constant(operator.output) is not None:
                continue
            needed[operator.output] = operator
            open_tensors += operator.inputs[: followed.get(operator.name)]
        return [operator for operator in self.operators.values() if operator.output in needed]


class OnnxGraph:
    """The ONNX graph that is made, channels before rows and columns."""

    def __init__(self, source: TfliteGraph) -> None:
        self.source = source
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def save(self, path: Path, name: str, inputs: Mapping[str, list[int]], outputs: Mapping[str, list[int]]) -> None:
        """Writes the graph, with the shapes of its float32 inputs and outputs."""
        taken, made = (
            [helper.make_tensor_value_info(each, TensorProto.FLOAT, shape) for each, shape in side.items()]
            for side in (inputs, outputs)
        )
        graph = helper.make_graph(self._nodes, name, taken, made, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)

    def add(self, kind: str, inputs: list[str], output: int | str, **attributes: Any) -> None:
        """Adds a node that makes a tensor, given by its number in the source or its name."""
        made = output if isinstance(output, str) else tensor_name(output)
        self._nodes.append(helper.make_node(kind, inputs, [made], **attributes))

    def convert(self, operator: Operator) -> None:
        """Adds the nodes for a layer.

        Raises:
            ValueError: A layer of another kind than those that the converted networks have.
        """
        source, name = operator.inputs[0], operator.name
        if name in _SAME:
            self.add(_SAME[name], [tensor_name(tensor) for tensor in operator.inputs], operator.output)
        elif name == "CONV_2D":
            self._convolution(operator, tflite.Conv2DOptions(), (0, 3, 1, 2))
        elif name == "DEPTHWISE_CONV_2D":
            self._convolution(operator, tflite.DepthwiseConv2DOptions(), (3, 0, 1, 2))
        elif name == "PRELU":
            slope = self.weights(operator.inputs[1], lambda values: values.reshape(-1, 1, 1))
            self.add("PRelu", [tensor_name(source), slope], operator.output)
        elif name == "MAX_POOL_2D":
            options = tflite.Pool2DOptions()
            options.Init(operator.options.Bytes, operator.options.Pos)
            kernel = [options.FilterHeight(), options.FilterWidth()]
            self.add("MaxPool", [tensor_name(source)], operator.output, **self._window(source, kernel, options))
        elif name in ("AVERAGE_POOL_2D", "MEAN"):
            if self.source.shape(operator.output)[1:3] != [1, 1]:
                raise ValueError(f"Expected a mean over the whole picture, got {self.source.shape(operator.output)}.")
            self.add("GlobalAveragePool", [tensor_name(source)], operator.output)
        elif name == "RESIZE_BILINEAR":
            self._resize(operator)
        elif name == "Convolution2DTransposeBias":  # MediaPipe's own: 2 x 2 windows that do not overlap
            inputs = [
                tensor_name(source),
                self.weights(operator.inputs[1], lambda values: values.transpose(3, 0, 1, 2)),
                self.weights(operator.inputs[2], lambda values: values),
            ]
            self.add("ConvTranspose", inputs, operator.output, kernel_shape=[2, 2], strides=[2, 2])
        elif name == "PAD":
            margins = self.source.constant(operator.inputs[1])
            assert margins is not None
            both = margins[[0, 3, 1, 2]].T.ravel().astype(np.int64)
            margin = self.constant(f"margins{operator.output}", both)
            self.add("Pad", [tensor_name(source), margin], operator.output)
        else:
            raise ValueError(f"Expected a layer of a known kind, got {name}.")

    def _convolution(self, operator: Operator, options: Any, order: tuple[int, ...]) -> None:
        options.Init(operator.options.Bytes, operator.options.Pos)
        weights = self.source.constant(operator.inputs[1])
        assert weights is not None and options.FusedActivationFunction() == tflite.ActivationFunctionType.NONE
        inputs = [
            tensor_name(operator.inputs[0]),
            self.weights(operator.inputs[1], lambda values: values.transpose(order)),
            self.weights(operator.inputs[2], lambda values: values),
        ]
        window = self._window(operator.inputs[0], list(weights.shape[1:3]), options)
        groups = weights.shape[3] if operator.name == "DEPTHWISE_CONV_2D" else 1
        self.add("Conv", inputs, operator.output, group=groups, **window)

    def _resize(self, operator: Operator) -> None:
        options = tflite.ResizeBilinearOptions()
        options.Init(operator.options.Bytes, operator.options.Pos)
        mode = "half_pixel" if options.HalfPixelCenters() else "asymmetric"
        if options.AlignCorners():
            mode = "align_corners"
        rows, columns = (
            self.source.shape(operator.output)[axis] / self.source.shape(operator.inputs[0])[axis] for axis in (1, 2)
        )
        scales = self.constant(f"scales{operator.output}", np.array([1, 1, rows, columns], np.float32))
        inputs = [tensor_name(operator.inputs[0]), "", scales]
        self.add("Resize", inputs, operator.output, mode="linear", coordinate_transformation_mode=mode)

    def _window(self, source: int, kernel: list[int], options: Any) -> dict[str, list[int]]:
        """Returns kernel, strides and margins; TFLite puts the odd margin behind."""
        strides = [options.StrideH(), options.StrideW()]
        margins = [0, 0]
        if options.Padding() == tflite.Padding.SAME:
            sides = self.source.shape(source)[1:3]
            margins = [
                max((-(-side // stride) - 1) * stride + size - side, 0)
                for side, stride, size in zip(sides, strides, kernel, strict=True)
            ]
        before = [margin // 2 for margin in margins]
        after = [margin - part for margin, part in zip(margins, before, strict=True)]
        return {"kernel_shape": kernel, "strides": strides, "pads": [*before, *after]}

    def weights(self, tensor: int, arrange: Callable[[NDArray[Any]], NDArray[Any]]) -> str:
        """Adds a constant of the source, in float16 with a cast to what is computed with; returns its name."""
        values = self.source.constant(tensor)
        assert values is not None
        stored = self.constant(f"weights{tensor}", np.ascontiguousarray(arrange(values)))
        if values.dtype == np.float32:
            return stored
        self.add("Cast", [stored], f"{stored}_float", to=TensorProto.FLOAT)
        return f"{stored}_float"

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Adds a constant; returns its name."""
        self._constants.append(numpy_helper.from_array(values, name))
        return name


def tensor_name(tensor: int) -> str:
    """Returns the name of a tensor of the source in the ONNX graph."""
    return f"tensor{tensor}"
