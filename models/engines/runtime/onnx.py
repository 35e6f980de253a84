"""An ONNX network whose inputs have unknown names: they are given in the file's order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import WeightsError
from models.engines.protocol import ComputeResources, TensorTable
from models.engines.weights.recognition import Shape
from models.weights.onnx_session import make_session

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES: Final = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


class OnnxNetwork:
    """A loaded network, of which one output is wanted.

    Args:
        path: The .onnx file.
        resources: Where it runs.
        mismatch: Returns why shapes are not those of the expected network, or None; see `WeightsSpec.mismatch`.
        is_output: Whether a shape is that of the wanted output, the first for which it is true.

    Attributes:
        table: Shapes of the inputs and outputs.
        dtypes: Types of the inputs.
        is_float32: Whether all inputs and the wanted output are float32.

    Raises:
        WeightsError: The file is missing, cannot be loaded or is another network.
        ConfigError: CUDA was requested but is not available.
    """

    def __init__(
        self,
        path: Path,
        resources: ComputeResources,
        mismatch: Callable[[TensorTable], str | None],
        is_output: Callable[[Shape], bool] = lambda shape: True,
    ) -> None:
        self._session = make_session(
            path,
            num_threads=resources.num_threads,
            device=resources.device,
            gpu_share=resources.gpu_share,
            tensorrt=resources.tensorrt,
        )
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.table = TensorTable("onnx", {}, _shapes(inputs), _shapes(outputs))
        if found := mismatch(self.table):
            raise WeightsError(f"{path.name}: {found.removesuffix('.')}.")
        if unknown := {port.type for port in inputs} - set(_DTYPES):
            raise WeightsError(f"{path.name}: expected inputs of {', '.join(_DTYPES)}, found {', '.join(unknown)}.")
        self._names = [port.name for port in inputs]
        self.dtypes = [_DTYPES[port.type] for port in inputs]
        output = next(port for port, shape in zip(outputs, self.table.outputs, strict=True) if is_output(shape))
        self._output = output.name
        self.is_float32 = {port.type for port in (*inputs, output)} == {"tensor(float)"}

    def __call__(self, *arrays: NDArray[Any]) -> NDArray[np.float32]:
        """Return the wanted output; there is one array per input, of any number type."""
        (result,) = self._run([self._output], arrays)
        return result

    def run_all(self, *arrays: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return all outputs; see `__call__`."""
        return self._run(None, arrays)

    def run_on_cuda(self, tensors: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        """Compute the output, of a known shape, on the device of the inputs, without copies to CPU memory.

        Needs `is_float32`. The inputs are contiguous and on the GPU.
        """
        import torch

        device = tensors[0].device
        index = device.index or 0
        result = torch.empty(shape, dtype=torch.float32, device=device)
        binding = self._session.io_binding()
        for name, tensor in zip(self._names, tensors, strict=True):
            binding.bind_input(name, "cuda", index, np.float32, tuple(tensor.shape), tensor.data_ptr())
        binding.bind_output(self._output, "cuda", index, np.float32, shape, result.data_ptr())
        # onnxruntime computes on its own stream, which does not wait for operations that PyTorch has queued.
        torch.cuda.current_stream(device).synchronize()
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return result

    def _run(self, outputs: list[str] | None, arrays: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
        ports = zip(self._names, self.dtypes, arrays, strict=True)
        feeds = {name: np.ascontiguousarray(array, dtype) for name, dtype, array in ports}
        return [np.asarray(result, np.float32) for result in self._session.run(outputs, feeds)]


def _shapes(ports: Sequence[Any]) -> tuple[Shape, ...]:
    """Shapes of inputs or outputs, -1 for a free dimension."""
    return tuple(
        tuple(size if isinstance(size, int) and size > 0 else -1 for size in port.shape or ()) for port in ports
    )
