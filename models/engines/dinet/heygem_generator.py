"""HeyGem's generator `dinet_v1` as an ONNX export: masked crop, whole crop and speech -> crop with a mouth."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from errors import WeightsError
from models.engines.contract import Machine
from models.engines.dinet.positional_network import PositionalNetwork
from models.engines.dinet.tensor_shapes import Shape

SIZE: Final = 256
"""Side of the crop, `model_input_size` of the published checkpoint."""
GENERATOR_INPUTS: Final[tuple[Shape, ...]] = ((-1, 3, SIZE, SIZE), (-1, 3, SIZE, SIZE), (-1, 256, 20))
"""Crop with the mouth black, the same crop as it is, wenet window."""
GENERATOR_OUTPUTS: Final[tuple[Shape, ...]] = ((-1, 3, SIZE, SIZE),)


class HeyGemGenerator:
    """The loaded network. Batches always have the same size, so a frame's bytes do not depend on its neighbours.

    Args:
        path: The .onnx file; its batch is free or fixed.
        machine: Where it runs.
        batch_size: Frames at a time where the file leaves that open.

    Raises:
        WeightsError: The file is missing or is not such a network.
        ConfigError: CUDA was asked for and is not active.
    """

    def __init__(self, path: Path, machine: Machine, batch_size: int = 1) -> None:
        self._network = PositionalNetwork(path, machine, GENERATOR_INPUTS, GENERATOR_OUTPUTS)
        fixed = {shape[0] for shape in (*self._network.inputs, self._network.outputs[0]) if shape and shape[0] > 0}
        if len(fixed) > 1:
            raise WeightsError(
                f"{path.name}: expected one batch size in all inputs and outputs, found {sorted(fixed)}."
            )
        self.batch_size = fixed.pop() if fixed else batch_size

    def __call__(
        self, source: NDArray[np.float32], reference: NDArray[np.float32], speech: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Make N crops.

        Args:
            source: (N, 3, 256, 256) float32 RGB in [0, 1], the mouth black.
            reference: (N, 3, 256, 256) float32 RGB in [0, 1], the same crop unmasked.
            speech: (N, 256, 20) float32 wenet windows: features, rows 40 ms apart.

        Returns:
            (N, 3, 256, 256) float32 RGB in [0, 1].
        """
        parts = []
        for start in range(0, len(source), self.batch_size):
            rows = np.arange(start, start + self.batch_size).clip(max=len(source) - 1)  # the last one fills up
            (painted, *_) = self._network(source[rows], reference[rows], speech[rows])
            parts.append(painted[: len(source) - start].clip(0, 1))
        return np.concatenate(parts) if parts else np.empty((0, 3, SIZE, SIZE), np.float32)
