"""From a chunk's crops to finished patches, for both generators."""

from __future__ import annotations

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
from models.face_chunk import FacePatches

if TYPE_CHECKING:
    from models.engines.dinet.dinet_generator import DinetGenerator

REFERENCES = "references"
"""Name of the reference frames among a chunk's `extra` crops: (5, 416, 320, 3) uint8 RGB."""


class HeyGemPainter:
    """Satisfies `contract.Painter`: both pictures that the generator takes are the frame's own crop.

    Args:
        generator: The loaded network.
        layout: What it sees.
        style: What of its crop is shown.
    """

    def __init__(self, generator: HeyGemGenerator, layout: CropLayout, style: Paste) -> None:
        self._generator, self._layout, self._style = generator, layout, style

    def paint(self, chunk: BoxChunk) -> FacePatches:
        """Return one patch for every face of `chunk`."""
        pictures = _pictures(chunk, self._layout)
        painted = self._generator(self._layout.mask(pictures), pictures, chunk.drive)
        return paste_crops(chunk, painted, self._layout, self._style)


class DinetPainter:
    """Satisfies `contract.Painter`: the mouth's looks come from the presenter's reference frames.

    Args:
        generator: The loaded network.
        layout: What it sees.
        style: What of its crop is shown.
    """

    def __init__(self, generator: DinetGenerator, layout: CropLayout, style: Paste) -> None:
        self._generator, self._layout, self._style = generator, layout, style

    def paint(self, chunk: BoxChunk) -> FacePatches:
        """Return one patch for every face of `chunk`."""
        source = self._layout.mask(_pictures(chunk, self._layout))
        painted = self._generator(source, chunk.extra[REFERENCES], chunk.drive)
        return paste_crops(chunk, painted, self._layout, self._style)


def paste_crops(chunk: BoxChunk, painted: NDArray[np.float32], layout: CropLayout, style: Paste) -> FacePatches:
    """Put generated crops back.

    Args:
        chunk: N faces.
        painted: (N, 3, height, width) float32 RGB in [0, 1].
        layout: What the generator sees.
        style: What of it is shown.
    """
    faces = np.rint(painted.transpose(0, 2, 3, 1) * 255).clip(0, 255).astype(np.uint8)
    if style == "face":
        return paste(chunk, faces)
    if style == "mask":
        masked = corners(layout.masked_box(chunk.boxes))
        return paste(replace(chunk, outline=masked), faces)
    boxes = chunk.boxes.copy()
    boxes[:, 3] = boxes[:, 1] + (boxes[:, 3] - boxes[:, 1]) * layout.num_pasted / layout.height
    return paste(replace(chunk, boxes=boxes), np.ascontiguousarray(faces[:, : layout.num_pasted]), "rectangle")


def _pictures(chunk: BoxChunk, layout: CropLayout) -> NDArray[np.float32]:
    """(N, 3, height, width) float32 RGB in [0, 1]."""
    rgb = box_rgb(chunk, layout.size, layout.interpolation)
    return np.ascontiguousarray(rgb.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
