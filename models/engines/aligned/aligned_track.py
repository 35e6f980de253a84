"""The upright picture of one avatar's face in every source frame: where it is cut and how it is turned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from media.probe import ColourTags
from media.yuv_frame import YuvFrame
from models.engines.aligned.alignment import align, bounding_boxes, five_points, moved_to, square_corners
from models.engines.box.box_chunk import BoxChunk
from models.engines.box.box_plan import BoxPlan
from models.engines.box.box_track import BoxTrack
from models.engines.box.cut import cut_boxes
from models.engines.box.points68 import ibug_points, lower_face_outline
from models.track.trust import patch_share

if TYPE_CHECKING:
    from models.track.face_track import FaceTrack

MATRIX: Final = "matrix"
"""Name of a chunk's array (N, 2, 3) float64 from region pixels to those of the upright picture."""
_OUTWARD: Final = 0.15  # the lower face grows where the mouth opens wider than in the frame


@dataclass(frozen=True)
class AlignedTrack:
    """Upright pictures of N source frames.

    Attributes:
        boxes: Regions; a box encloses the upright picture, the outline the lower face.
        matrices: (N, 2, 3) float64 from frame pixels to those of the picture.
    """

    boxes: BoxTrack
    matrices: NDArray[np.float64]

    @classmethod
    def of(cls, track: FaceTrack, template: NDArray[np.float64], side: int) -> AlignedTrack:
        """Turn a tracked face onto a template of `models.engines.aligned.alignment`; pictures have `side` pixels."""
        points68 = ibug_points(track.points)
        matrices = align(five_points(points68), template, side)
        boxes = bounding_boxes(square_corners(matrices, side))
        outline = lower_face_outline(points68, _OUTWARD)
        return cls(BoxTrack.of(boxes, outline, patch_share(track.trust)), matrices)

    def cut(self, colour: ColourTags, plan: BoxPlan, frames: Sequence[YuvFrame]) -> BoxChunk:
        """Cut the regions of T output frames; the chunk's arrays hold `MATRIX`."""
        placed = replace(plan, arrays={**plan.arrays, MATRIX: self.matrices[plan.source_index]})
        chunk = cut_boxes(self.boxes, colour, placed, frames)
        moved = [moved_to(matrix, origin) for matrix, origin in zip(chunk.arrays[MATRIX], chunk.origins, strict=True)]
        matrices = np.stack(moved) if moved else np.empty((0, 2, 3))
        return replace(chunk, arrays={**chunk.arrays, MATRIX: matrices})

    def save(self, folder: Path) -> None:
        """Write two files."""
        self.boxes.save(folder / "boxes.npz")
        np.save(folder / "matrices.npy", self.matrices)

    @classmethod
    def load(cls, folder: Path) -> AlignedTrack:
        """Read what `save` wrote."""
        return cls(BoxTrack.load(folder / "boxes.npz"), np.load(folder / "matrices.npy", allow_pickle=False))
