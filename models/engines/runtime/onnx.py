"""An ONNX network whose inputs have unknown names and are identified by their shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from errors import WeightsError
from models.engines.protocol import ComputeResources, TensorTable
from models.engines.weights.recognition import Shape, ports_mismatch
from models.weights.onnx_session import make_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from torch import Tensor


def open_session(path: Path, resources: ComputeResources) -> InferenceSession:
    """Load a network with what a replica may use; see `make_session`."""
    return make_session(
        path,
        num_threads=resources.num_threads,
        device=resources.device,
        gpu_share=resources.gpu_share,
        tensorrt=resources.tensorrt,
    )


def table_of(session: InferenceSession) -> TensorTable:
    """Return the shapes of the inputs and outputs of a loaded network."""
    inputs, outputs = (
        tuple(tuple(size if isinstance(size, int) and size > 0 else -1 for size in node.shape or ()) for node in nodes)
        for nodes in (session.get_inputs(), session.get_outputs())
    )
    return TensorTable("onnx", {}, inputs, outputs)


class OnnxNetwork:
    """A network with one output that is wanted, the first.

    Raises:
        WeightsError: The file is not a network of float32 values that onnxruntime can load.
        ConfigError: CUDA was requested but is not available.
    """

    def __init__(self, path: Path, resources: ComputeResources) -> None:
        self._session = open_session(path, resources)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        types = {node.type for node in (*inputs, outputs[0])}
        if types != {"tensor(float)"}:
            raise WeightsError(f"Expected float32 inputs and outputs in {path.name}, found {sorted(types)}.")
        self.input_names = tuple(node.name for node in inputs)
        """Names of the inputs in the file's order."""
        self.table = table_of(self._session)
        """Their shapes, and those of the outputs."""
        self._output_name = outputs[0].name

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Compute the output of arrays by input name."""
        result: NDArray[np.float32] = self._session.run([self._output_name], dict(feeds))[0]
        return result

    def run_on_cuda(self, feeds: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """Compute the output, of a known shape, on the device of the inputs, without copies to CPU memory.

        Both are float32 on the GPU; the inputs are contiguous.
        """
        import torch

        first = next(iter(feeds.values()))
        index = first.device.index or 0
        result = torch.empty(shape, dtype=torch.float32, device=first.device)
        binding = self._session.io_binding()
        for name, tensor in feeds.items():
            binding.bind_input(name, "cuda", index, np.float32, tuple(tensor.shape), tensor.data_ptr())
        binding.bind_output(self._output_name, "cuda", index, np.float32, shape, result.data_ptr())
        # onnxruntime computes on its own stream, which does not wait for operations that PyTorch has queued.
        torch.cuda.current_stream(first.device).synchronize()
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return result


_DTYPES: Final = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


class PositionalNetwork:
    """A loaded network whose shapes are those expected; lengths may be int32 or int64, the rest half or full precision.

    Args:
        path: The .onnx file.
        resources: Where it runs.
        inputs: Expected shapes of the inputs in the file's order; see `ports_mismatch`.
        outputs: Expected shapes of the first outputs.

    Raises:
        WeightsError: The file is missing, cannot be loaded or has other inputs or outputs.
        ConfigError: CUDA was requested but is not available.
    """

    def __init__(
        self, path: Path, resources: ComputeResources, inputs: Sequence[Shape], outputs: Sequence[Shape]
    ) -> None:
        self._session = open_session(path, resources)
        if mismatch := ports_mismatch(table_of(self._session), inputs, outputs):
            raise WeightsError(f"{path.name}: {mismatch}")
        ports = self._session.get_inputs()
        types = [port.type for port in ports]
        if not set(types) <= set(_DTYPES):
            raise WeightsError(f"{path.name}: expected inputs of {', '.join(_DTYPES)}, found {', '.join(types)}.")
        self._inputs = [(port.name, _DTYPES[port.type]) for port in ports]

    def __call__(self, *arrays: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return the outputs as float32; there is one array per input, in the file's order, of any number type."""
        feeds = {
            name: np.ascontiguousarray(array, dtype) for (name, dtype), array in zip(self._inputs, arrays, strict=True)
        }
        return [np.asarray(output, np.float32) for output in self._session.run(None, feeds)]
