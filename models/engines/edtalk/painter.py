"""Paints chunks: each face upright, and what the network makes of it turned back into the frame."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from errors import CancelledJobError
from models.engines.aligned.aligned_track import MATRIX
from models.engines.aligned.paste import paste_lower_face, paste_square
from models.engines.aligned.warp import aligned_rgb
from models.engines.box.box_chunk import BoxChunk
from models.engines.edtalk.generator import EdTalkGenerator
from models.engines.edtalk.options import EdTalkOptions
from models.engines.edtalk.role import SIDE
from models.engines.patches import FacePatches


class EdTalkPainter:
    """Satisfies `models.engines.contract.Painter`.

    Args:
        generator: The network.
        options: How its pictures are pasted.
    """

    def __init__(self, generator: EdTalkGenerator, options: EdTalkOptions) -> None:
        self._generator = generator
        self._options = options

    def paint(self, chunk: BoxChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        """Return one patch for every face of a chunk of this engine; the same chunk gives the same bytes."""
        patches = FacePatches(chunk.row, chunk.origins, chunk.y[chunk.crop], chunk.uv[chunk.crop])
        seen: dict[int, NDArray[np.uint8]] = {}
        for face in range(chunk.num_faces):
            if should_stop():
                raise CancelledJobError(f"{face} of {chunk.num_faces} faces were painted.")
            crop, matrix = int(chunk.crop[face]), chunk.arrays[MATRIX][face]
            if crop not in seen:
                seen[crop] = aligned_rgb(chunk.region(crop), chunk.colour, matrix, chunk.boxes[face], SIDE)
            self._paste(chunk, patches, face, self._generator.generate(seen[crop], chunk.drive[face]))
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
