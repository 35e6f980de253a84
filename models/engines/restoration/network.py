"""Restoration networks, GFPGAN and those with the same picture in and out: recognises and runs their ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from errors import WeightsError
from models.engines.protocol import ComputeResources, TensorTable, WeightsSpec
from models.engines.restoration.restorer import FaceRestorer, RestorationOptions
from models.engines.weights.recognition import shape_fits

PICTURE: Final = (1, 3, 512, 512)
_NUMPY_TYPES: Final = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


def restoration_mismatch(table: TensorTable) -> str | None:
    """Return why a file is not a restoration network; None if it is."""
    pictures = [shape for shape in table.inputs if shape_fits(shape, PICTURE, (0,))]
    numbers = [shape for shape in table.inputs if len(shape) <= 1]
    are_all = len(pictures) == 1 and len(pictures) + len(numbers) == len(table.inputs)
    if table.format == "onnx" and are_all and any(shape_fits(shape, PICTURE) for shape in table.outputs):
        return None
    return (
        f"expected an ONNX file with a picture {PICTURE} in and out, at most one number beside it, "
        f"found {list(table.inputs)} -> {list(table.outputs)}"
    )


RESTORATION_ROLE: Final = WeightsSpec(
    "restoration",
    "Face restoration of the kind of GFPGANv1.4.onnx (512 x 512)",
    "GFPGAN: Apache-2.0 with parts under other terms (StyleGAN2 ops); CodeFormer: S-Lab, not for commercial use.",
    restoration_mismatch,
)


def load_restorer(path: Path, resources: ComputeResources, options: RestorationOptions) -> FaceRestorer:
    """Load a network that sharpens faces.

    Raises:
        WeightsError: The file is missing or is not a restoration network.
        ConfigError: The device cannot be used.
    """
    return FaceRestorer(OnnxRestoration(path, resources, options.fidelity), options.strength)


class OnnxRestoration:
    """Runs the network on one face at a time.

    Pictures are (1, 3, 512, 512) RGB, (x - 127.5) / 127.5, both ways (GFPGANv1.4.onnx as HeyGem's forks run it). A
    second input of one number is how closely CodeFormer follows its input.

    Raises:
        WeightsError: The file is missing or not such a network.
        ConfigError: The device cannot be used.
    """

    def __init__(self, path: Path, resources: ComputeResources, fidelity: float = 0.7) -> None:
        # Imported here: processes that only plan or crop do not load onnxruntime.
        from models.engines.runtime.onnx import open_session, table_of

        self._session = open_session(path, resources)
        inputs, table = self._session.get_inputs(), table_of(self._session)
        if mismatch := restoration_mismatch(table):
            raise WeightsError(f"{path.name}: {mismatch}.")
        if unknown := {port.type for port in inputs} - set(_NUMPY_TYPES):
            raise WeightsError(f"{path.name}: expected inputs of {', '.join(_NUMPY_TYPES)}, found {unknown}.")
        picture, *numbers = sorted(inputs, key=lambda port: -len(port.shape))
        outputs = zip(self._session.get_outputs(), table.outputs, strict=True)
        self._output = next(port.name for port, shape in outputs if shape_fits(shape, PICTURE))
        self._input, self._type = picture.name, _NUMPY_TYPES[picture.type]
        self._numbers: dict[str, Any] = {
            port.name: np.full([1] * len(port.shape), fidelity, _NUMPY_TYPES[port.type]) for port in numbers
        }

    def __call__(self, face: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return (512, 512, 3) uint8 RGB for (512, 512, 3) uint8 RGB."""
        shown = (face.astype(np.float32) - 127.5) / 127.5
        picture = np.ascontiguousarray(shown.transpose(2, 0, 1)[None], self._type)
        answer = self._session.run([self._output], {**self._numbers, self._input: picture})[0][0]
        levels = np.rint(answer.astype(np.float32).transpose(1, 2, 0) * 127.5 + 127.5)
        return np.asarray(np.nan_to_num(levels).clip(0, 255), np.uint8)
