"""Restoration networks, GFPGAN and those with the same picture in and out: recognises and runs their ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.engines.protocol import ComputeResources, TensorTable, WeightsSpec
from models.engines.restoration.restorer import FaceRestorer, RestorationOptions
from models.engines.weights.recognition import shape_fits

PICTURE: Final = (1, 3, 512, 512)


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
        from models.engines.runtime.onnx import OnnxNetwork

        self._network = OnnxNetwork(path, resources, restoration_mismatch, lambda shape: shape_fits(shape, PICTURE))
        self._numbers = [
            None if len(shape) > 1 else np.full([1] * len(shape), fidelity) for shape in self._network.table.inputs
        ]

    def __call__(self, face: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return (512, 512, 3) uint8 RGB for (512, 512, 3) uint8 RGB."""
        shown = (face.astype(np.float32) - 127.5) / 127.5
        picture = shown.transpose(2, 0, 1)[None]
        answer = self._network(*(picture if number is None else number for number in self._numbers))[0]
        levels = np.rint(answer.transpose(1, 2, 0) * 127.5 + 127.5)
        return np.asarray(np.nan_to_num(levels).clip(0, 255), np.uint8)
