"""The network as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import WeightsError
from models.engines.compute.onnx_network import OnnxNetwork
from models.engines.contract import Machine
from models.engines.edtalk.role import MEL, PICTURE, SIDE, WEIGHT, edtalk_layout


class EdTalkGenerator:
    """Paints whole upright faces, one at a time: the published file has batches of 1.

    Args:
        path: The .onnx file.
        machine: Where it runs.
        weight: How far the lips are moved, 0 to 1.

    Raises:
        WeightsError: The file is missing or not this network.
        ConfigError: The device cannot be used.
    """

    def __init__(self, path: Path, machine: Machine, weight: float) -> None:
        self._network = OnnxNetwork(path, machine)
        layout = edtalk_layout(self._network.input_shapes, (self._network.output_shape,))
        if layout is None:
            raise WeightsError(
                f"Expected in {path.name} inputs {MEL}, {PICTURE} and {WEIGHT} and an output {PICTURE}, found "
                f"{list(self._network.input_shapes)} -> {self._network.output_shape}."
            )
        names = self._network.input_names
        self._mel, self._picture, self._weight = names[layout.mel], names[layout.picture], names[layout.weight]
        self._always = np.full(WEIGHT, weight, np.float32)

    def generate(self, face: NDArray[np.uint8], window: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Paint one face.

        Args:
            face: (256, 256, 3) uint8 RGB.
            window: (80, 16) float32 mel window.

        Returns:
            (256, 256, 3) uint8 RGB.
        """
        picture = np.ascontiguousarray(face.transpose(2, 0, 1)[None], np.float32) / 255
        feeds: dict[str, NDArray[Any]] = {
            self._mel: window[None, None],
            self._picture: picture,
            self._weight: self._always,
        }
        painted = self._network.run(feeds)
        if painted.shape != PICTURE:
            raise WeightsError(f"Expected {PICTURE} of the generator, got {painted.shape}.")
        levels = np.rint(np.nan_to_num(painted[0]).clip(0, 1) * 255).astype(np.uint8)
        return np.ascontiguousarray(levels.transpose(1, 2, 0)).reshape(SIDE, SIDE, 3)
