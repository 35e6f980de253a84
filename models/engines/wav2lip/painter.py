"""Paints chunks: the network's picture of each box, mixed back into the frame."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.engines.box.box_chunk import BoxChunk
from models.engines.box.paste import paste
from models.engines.box.picture import box_rgb
from models.engines.patches import FacePatches
from models.engines.wav2lip.generator import Generator
from models.engines.wav2lip.options import Wav2LipOptions


class Wav2LipPainter:
    """Satisfies `models.engines.contract.Painter`.

    Args:
        generator: The network.
        options: How its pictures are pasted.
    """

    def __init__(self, generator: Generator, options: Wav2LipOptions) -> None:
        self._generator = generator
        self._options = options

    def paint(self, chunk: BoxChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        """Return one patch for every face of a chunk; the same chunk gives the same bytes."""
        # The network was trained on what OpenCV reads: BGR, resized linearly.
        faces = box_rgb(chunk, self._generator.size, "linear", order="bgr")
        painted = self._generator.generate(faces, chunk.drive, should_stop)
        rgb = np.ascontiguousarray(painted[..., ::-1])
        return paste(chunk, rgb, self._options.paste, match_colour=self._options.match_colour)
