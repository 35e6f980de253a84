"""An ONNX network of unknown names: its inputs are told apart by their shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from errors import WeightsError
from models.engines.contract import Machine
from models.weights.onnx_session import make_session

if TYPE_CHECKING:
    from torch import Tensor


def open_session(path: Path, machine: Machine) -> InferenceSession:
    """Load a network with what a replica may use; see `make_session`."""
    return make_session(
        path,
        num_threads=machine.num_threads,
        device=machine.device,
        gpu_share=machine.gpu_share,
        tensorrt=machine.tensorrt,
    )


class OnnxNetwork:
    """A network with one output that is wanted, the first.

    Args:
        path: The .onnx file.
        machine: Where it runs.

    Raises:
        WeightsError: The file is not a network of float32 values that onnxruntime can load.
        ConfigError: CUDA was asked for and is not active.
    """

    def __init__(self, path: Path, machine: Machine) -> None:
        self._session = open_session(path, machine)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        types = {node.type for node in (*inputs, outputs[0])}
        if types != {"tensor(float)"}:
            raise WeightsError(f"Expected float32 inputs and outputs in {path.name}, found {sorted(types)}.")
        self.input_names = tuple(node.name for node in inputs)
        """Names of the inputs in the file's order."""
        self.input_shapes = tuple(_shape(node.shape) for node in inputs)
        """Their shapes, -1 for a free dimension."""
        self.output_shape = _shape(outputs[0].shape)
        """Shape of the first output, -1 for a free dimension."""
        self._output_name = outputs[0].name

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Compute the output of arrays by input name."""
        result: NDArray[np.float32] = self._session.run([self._output_name], dict(feeds))[0]
        return result

    def run_on_cuda(self, feeds: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """Compute the output where the inputs are: neither goes through the CPU's memory.

        Args:
            feeds: Contiguous float32 tensors on the GPU, by input name.
            shape: Shape of the output.

        Returns:
            float32 on the GPU.
        """
        import torch

        first = next(iter(feeds.values()))
        index = first.device.index or 0
        result = torch.empty(shape, dtype=torch.float32, device=first.device)
        binding = self._session.io_binding()
        for name, tensor in feeds.items():
            binding.bind_input(name, "cuda", index, np.float32, tuple(tensor.shape), tensor.data_ptr())
        binding.bind_output(self._output_name, "cuda", index, np.float32, shape, result.data_ptr())
        # onnxruntime computes on a stream of its own, which knows nothing of what PyTorch has queued.
        torch.cuda.current_stream(first.device).synchronize()
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return result


def _shape(dimensions: list[int | str | None]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) and size > 0 else -1 for size in dimensions)
