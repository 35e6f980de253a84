"""Runs EdTalk's generator, an ONNX network, on upright faces and pastes the results back into the frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import CancelledJobError, WeightsError
from models.engines.edtalk.options import EdTalkOptions
from models.engines.edtalk.weights import PICTURE, SIDE, edtalk_mismatch, edtalk_roles
from models.engines.paste.alignment import MATRIX
from models.engines.paste.crop import BoxChunk
from models.engines.paste.upright import aligned_rgb, paste_lower_face, paste_square
from models.engines.patches import FacePatches
from models.engines.protocol import ComputeResources
from models.engines.runtime.onnx import OnnxNetwork


class EdTalkGenerator:
    """Generates whole upright faces, one at a time: the published file has batches of 1.

    `weight` says how far the lips are moved, 0 to 1.

    Raises:
        WeightsError: The file is missing or not this network.
        ConfigError: The device cannot be used.
    """

    def __init__(self, path: Path, resources: ComputeResources, weight: float) -> None:
        self._network = OnnxNetwork(path, resources, edtalk_mismatch)
        roles = edtalk_roles(self._network.table.inputs)
        assert roles is not None
        self._roles = roles
        self._weight = np.full(1, weight)

    def generate(self, face: NDArray[np.uint8], window: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Generate one face, (256, 256, 3) uint8 RGB, from the frame's and an (80, 16) float32 mel window."""
        picture = np.ascontiguousarray(face.transpose(2, 0, 1)[None], np.float32) / 255
        arrays: dict[str, NDArray[Any]] = {"mel": window[None, None], "picture": picture, "weight": self._weight}
        generated = self._network(*(arrays[role] for role in self._roles))
        if generated.shape != PICTURE:
            raise WeightsError(f"Expected {PICTURE} of the generator, got {generated.shape}.")
        levels = np.rint(np.nan_to_num(generated[0]).clip(0, 1) * 255).astype(np.uint8)
        return np.ascontiguousarray(levels.transpose(1, 2, 0)).reshape(SIDE, SIDE, 3)


class EdTalkFaceGenerator:
    """Implements `models.engines.protocol.FaceGenerator`."""

    def __init__(self, generator: EdTalkGenerator, options: EdTalkOptions) -> None:
        self._generator = generator
        self._options = options

    def generate(self, chunk: BoxChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        """Return one patch for every face of a chunk of this engine; the same chunk gives the same bytes."""
        patches = FacePatches(chunk.row, chunk.origins, chunk.y[chunk.crop], chunk.uv[chunk.crop])
        seen: dict[int, NDArray[np.uint8]] = {}
        for face in range(chunk.num_faces):
            if should_stop():
                raise CancelledJobError(f"{face} of {chunk.num_faces} faces were generated.")
            crop, matrix = int(chunk.crop[face]), chunk.arrays[MATRIX][face]
            if crop not in seen:
                seen[crop] = aligned_rgb(chunk.region(crop), chunk.colour, matrix, chunk.boxes[face], SIDE)
            self._paste(chunk, patches, face, self._generator.generate(seen[crop], chunk.features[face]))
        return patches

    def _paste(self, chunk: BoxChunk, patches: FacePatches, face: int, rgb: NDArray[np.uint8]) -> None:
        matrix, opacity = chunk.arrays[MATRIX][face], float(chunk.opacity[face])
        if self._options.paste == "square":
            paste_square(patches, face, rgb, matrix, chunk.boxes[face], chunk.colour, opacity=opacity)
        else:
            paste_lower_face(
                patches,
                face,
                rgb,
                matrix,
                chunk.outline[face],
                chunk.colour,
                opacity=opacity,
                match_colour=self._options.match_colour,
            )
