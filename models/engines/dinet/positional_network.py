"""An ONNX network that a user exported: inputs are told apart by position, as names differ from export to export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from errors import WeightsError
from models.engines.contract import Machine
from models.engines.dinet.tensor_shapes import Shape, shapes_mismatch

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
        machine: Where it runs.
        inputs: Expected shapes of the inputs in the file's order; see `shapes_mismatch`.
        outputs: Expected shapes of the first outputs.

    Raises:
        WeightsError: The file is missing, cannot be loaded or has other inputs or outputs.
        ConfigError: CUDA was asked for and is not active.
    """

    def __init__(self, path: Path, machine: Machine, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> None:
        from models.engines.compute.onnx_network import open_session

        self._session = open_session(path, machine)
        found_inputs, found_outputs = self._session.get_inputs(), self._session.get_outputs()
        said = shapes_mismatch("inputs", inputs, [_shape(node.shape) for node in found_inputs])
        said = said or shapes_mismatch("outputs", outputs, [_shape(node.shape) for node in found_outputs])
        if said is not None:
            raise WeightsError(f"{path.name}: {said}")
        types = [node.type for node in found_inputs]
        if not set(types) <= set(_DTYPES):
            raise WeightsError(f"{path.name}: expected inputs of {', '.join(_DTYPES)}, found {', '.join(types)}.")
        self._inputs = [(node.name, _DTYPES[node.type]) for node in found_inputs]

    def __call__(self, *arrays: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Run it.

        Args:
            arrays: One for every input, in the file's order; they are converted to the types that it takes.

        Returns:
            Its outputs as float32.
        """
        feeds = {
            name: np.ascontiguousarray(array, dtype) for (name, dtype), array in zip(self._inputs, arrays, strict=True)
        }
        return [np.asarray(output, np.float32) for output in self._session.run(None, feeds)]


def _shape(shape: Sequence[Any] | None) -> Shape:
    return tuple(size if isinstance(size, int) and size > 0 else -1 for size in shape or ())
