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
    """A loaded network whose shapes are those expected.

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
        from models.onnx_session import make_session

        self._session = make_session(path, num_threads=machine.num_threads, device=machine.device)
        found_in, found_out = self._session.get_inputs(), self._session.get_outputs()
        self.inputs = tuple(_shape(item.shape) for item in found_in)
        self.outputs = tuple(_shape(item.shape) for item in found_out)
        said = shapes_mismatch("inputs", inputs, self.inputs) or shapes_mismatch("outputs", outputs, self.outputs)
        if said is not None:
            raise WeightsError(f"{path.name}: {said}")
        unknown = [item.type for item in found_in if item.type not in _DTYPES]
        if unknown:
            raise WeightsError(f"{path.name}: expected inputs of {', '.join(_DTYPES)}, found {', '.join(unknown)}.")
        self._names = [item.name for item in found_in]
        self._dtypes = [_DTYPES[item.type] for item in found_in]

    def __call__(self, *arrays: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Run it.

        Args:
            arrays: One for every input, in the file's order; they are converted to the types that it takes.

        Returns:
            Its outputs as float32.
        """
        feed = {
            name: np.ascontiguousarray(array, dtype)
            for name, array, dtype in zip(self._names, arrays, self._dtypes, strict=True)
        }
        return [np.asarray(output, np.float32) for output in self._session.run(None, feed)]


def _shape(shape: Sequence[Any] | None) -> Shape:
    return tuple(size if isinstance(size, int) and size > 0 else -1 for size in shape or ())
