"""Paints chunks: the network's picture of each box, mixed back into the frame."""

from __future__ import annotations

from collections.abc import Callable

from models.engines.box.box_chunk import BoxChunk
from models.engines.box.paste import paste
from models.engines.box.picture import box_rgb
from models.engines.patches import FacePatches
from models.engines.ultralight.generator import Generator
from models.engines.ultralight.options import UltralightOptions
from models.engines.ultralight.plan import heard_by_faces
from models.engines.ultralight.variant import SIDE


class UltralightPainter:
    """Satisfies `models.engines.contract.Painter`.

    Args:
        generator: The network.
        options: How its pictures are pasted.
    """

    def __init__(self, generator: Generator, options: UltralightOptions) -> None:
        self._generator = generator
        self._options = options

    def paint(self, chunk: BoxChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        """Return one patch for every face of a chunk of this engine; the same chunk gives the same bytes."""
        shown = box_rgb(chunk, SIDE, "area", "bgr")
        variant = self._generator.variant
        heard = heard_by_faces(chunk, variant.hears).windows(variant)
        faces = self._generator.generate(shown, heard, should_stop)
        return paste(chunk, faces, self._options.paste, match_colour=self._options.match_colour)
