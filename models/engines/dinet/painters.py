"""From a chunk's crops to finished patches, for both generators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.engines.box.box_chunk import BoxChunk
from models.engines.box.paste import paste
from models.engines.box.picture import box_rgb
from models.engines.dinet.crop_layout import CropLayout, corners
from models.engines.dinet.heygem_generator import HeyGemGenerator
from models.engines.dinet.options import Paste
from models.engines.dinet.reference_frames import REFERENCES
from models.engines.patches import FacePatches

if TYPE_CHECKING:
    from models.engines.dinet.original.generator import DinetGenerator


class HeyGemPainter:
    """Satisfies `contract.Painter`: both pictures that the generator takes are the frame's own crop.

    Args:
        generator: The loaded network.
        layout: What it sees.
        style: What of its crop is shown.
    """

    def __init__(self, generator: HeyGemGenerator, layout: CropLayout, style: Paste) -> None:
        self._generator, self._layout, self._style = generator, layout, style

    def paint(self, chunk: BoxChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        """Return one patch for every face of `chunk`."""
        crops = box_rgb(chunk, self._layout.size, self._layout.interpolation)
        painted = self._generator.generate(crops, chunk.drive, should_stop)
        return paste_crops(chunk, painted, self._layout, self._style)


class DinetPainter:
    """Satisfies `contract.Painter`: the mouth's looks come from the avatar's reference frames.

    Args:
        generator: The loaded network.
        layout: What it sees.
        style: What of its crop is shown.
    """

    def __init__(self, generator: DinetGenerator, layout: CropLayout, style: Paste) -> None:
        self._generator, self._layout, self._style = generator, layout, style

    def paint(self, chunk: BoxChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        """Return one patch for every face of `chunk`."""
        crops = box_rgb(chunk, self._layout.size, self._layout.interpolation)
        painted = self._generator.generate(crops, chunk.extra[REFERENCES], chunk.drive, should_stop)
        return paste_crops(chunk, painted, self._layout, self._style)


def paste_crops(chunk: BoxChunk, painted: NDArray[np.uint8], layout: CropLayout, style: Paste) -> FacePatches:
    """Put generated crops back.

    Args:
        chunk: N faces.
        painted: (N, height, width, 3) uint8 RGB.
        layout: What the generator sees.
        style: What of it is shown.
    """
    if style == "face":
        return paste(chunk, painted)
    if style == "mask":
        return paste(replace(chunk, outline=corners(layout.masked_box(chunk.boxes))), painted)
    boxes = chunk.boxes.copy()
    boxes[:, 3] = boxes[:, 1] + (boxes[:, 3] - boxes[:, 1]) * layout.num_pasted / layout.height
    return paste(replace(chunk, boxes=boxes), np.ascontiguousarray(painted[:, : layout.num_pasted]), "rectangle")
