"""Rewrites a network so that onnxruntime computes it on a CPU without changing the layout of its tensors.

    python -m training.converters blocked-layout models/weights/face_landmark_468.onnx

On a CPU, onnxruntime computes convolutions in blocks of channels. It implements neither PRelu nor padding of channels
in this layout, so in MediaPipe's networks it converts every tensor back and forth, which takes most of the time.
Written as convolutions, both stay in the blocked layout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


def rewrite(path: Path) -> None:
    """Rewrites an .onnx file in place; its results differ only by rounding. A second time changes nothing."""
    model = onnx.load(path)
    rewritten = _Rewriter(onnx.shape_inference.infer_shapes(model).graph)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(rewritten.nodes)
    model.graph.initializer.extend(rewritten.constants)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


class _Rewriter:
    """The nodes and constants of a graph, rewritten."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._stored = {constant.name: constant for constant in graph.initializer}
        self._casts = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
        self._channels = {
            value.name: value.type.tensor_type.shape.dim[1].dim_value
            for value in graph.value_info
            if len(value.type.tensor_type.shape.dim) == 4
        }
        self.nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            if node.op_type == "PRelu":
                self._prelu(node)
            elif node.op_type == "Pad":
                self._pad(node)
            else:
                self.nodes.append(node)
        used = {name for node in self.nodes for name in node.input} | {output.name for output in graph.output}
        self.nodes = [node for node in self.nodes if used.intersection(node.output)]
        used = {name for node in self.nodes for name in node.input}
        self.constants = [constant for name, constant in self._stored.items() if name in used]

    def _prelu(self, node: onnx.NodeProto) -> None:
        """PRelu(x) = s x + (1 - s) Relu(x) = s x + sign(1 - s) Relu(|1 - s| x), for the slope s of each channel.

        onnxruntime fuses Relu and Add into the convolutions before them.
        """
        source, result = node.input[0], node.output[0]
        slope = self._value(node.input[1]).ravel()
        self._scale(source, slope, f"{result}_linear")
        self._scale(source, np.abs(1 - slope), f"{result}_scaled")
        self.nodes.append(helper.make_node("Relu", [f"{result}_scaled"], [f"{result}_positive"]))
        bent = f"{result}_positive"
        if (slope > 1).any():
            bent = f"{result}_signed"
            self._scale(f"{result}_positive", np.sign(1 - slope), bent)
        self.nodes.append(helper.make_node("Add", [f"{result}_linear", bent], [result]))

    def _pad(self, node: onnx.NodeProto) -> None:
        """Adds channels of zeros behind the others, as a convolution with ones on its diagonal.

        Raises:
            ValueError: Something else is padded.
        """
        before, after = self._value(node.input[1]).reshape(2, 4).astype(int)
        if before.any() or after[[0, 2, 3]].any():
            raise ValueError(f"Expected padding behind the channels, got {before} before and {after} after.")
        num = self._channels[node.input[0]]
        self._convolution(node.input[0], np.eye(num + after[1], num)[..., None, None], node.output[0])

    def _scale(self, source: str, factors: NDArray[np.floating], result: str) -> None:
        """Multiplies each channel by its factor."""
        self._convolution(source, factors.reshape(-1, 1, 1, 1), result, group=factors.size)

    def _convolution(self, source: str, weights: NDArray[Any], result: str, group: int = 1) -> None:
        name = f"{result}_weights"
        self._stored[name] = numpy_helper.from_array(weights.astype(np.float32), name)
        self.nodes.append(helper.make_node("Conv", [source, name], [result], group=group, kernel_shape=[1, 1]))

    def _value(self, name: str) -> NDArray[np.float64]:
        """Returns a constant, which may be stored in half precision."""
        return numpy_helper.to_array(self._stored[self._casts.get(name, name)]).astype(np.float64)
