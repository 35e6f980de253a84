"""Aligns faces upright: maps five points of a face to where networks expect them, and crops faces by these maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame
from models.engines.paste.crop import BoxChunk, BoxPlan, BoxTrack, crop_boxes
from models.engines.paste.landmarks68 import ibug_points, lower_face_outline
from models.track.face_track import patch_share

if TYPE_CHECKING:
    from models.track.face_track import FaceTrack

TEMPLATE_SIDE: Final = 512

# Eye, eye, tip of the nose, corner, corner of the mouth, from the picture's left; pixels.
# facefusion, face_helper.py (`WARP_TEMPLATES`, "ffhq_512"); the same as in facexlib, which aligned FFHQ so.
FFHQ_512: Final = np.array(
    [
        [0.37691676, 0.46864664],
        [0.62285697, 0.46912813],
        [0.50123859, 0.61331904],
        [0.39308822, 0.72541100],
        [0.61150205, 0.72490465],
    ]
) * float(TEMPLATE_SIDE)
# cv2box's "mtcnn_512", with which HeyGem's forks run GFPGAN.
MTCNN_512: Final = np.array(
    [[187.20, 239.28], [324.12, 238.52], [256.10, 317.15], [199.85, 397.31], [313.24, 396.68]],
)

_NOSE_TIP, _CORNERS = 30, (48, 54)


def five_points(points68: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (N, 5, 2) eyes, tip of the nose and corners of the mouth of (N, 68, 2) iBUG points.

    facefusion, face_helper.py (`convert_to_face_landmark_5`): an eye is the mean of its six points.
    """
    eyes = [points68[:, first : first + 6].mean(1) for first in (36, 42)]
    return np.stack([*eyes, points68[:, _NOSE_TIP], *(points68[:, i] for i in _CORNERS)], 1).astype(np.float64)


def align(points5: NDArray[np.floating], template: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return the least-squares similarities that map five points onto a template.

    Rotation, scale and translation, without mirroring: Umeyama, "Least-squares estimation of transformation parameters
    between two point patterns", PAMI 1991. facefusion uses RANSAC with a threshold of 100 pixels, which also keeps all
    five.

    Args:
        points5: (N, 5, 2) pixels.
        template: (5, 2) pixels of a picture of 512.
        side: Side of the picture, in pixels.

    Returns:
        (N, 2, 3) from frame pixels to picture pixels, both counted from the middle of the first pixel.
    """
    target = (template + 0.5) * (side / TEMPLATE_SIDE) - 0.5
    here, there = points5.mean(1, keepdims=True), target.mean(0)
    a, b = points5 - here, target - there
    spread = np.maximum((a**2).sum((1, 2)), 1e-9)
    cosine = (a * b).sum((1, 2)) / spread
    sine = (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).sum(1) / spread
    turn = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], 1)  # (N, 2, 2)
    move = there[:, None] - turn @ here.swapaxes(1, 2)  # (N, 2, 1)
    return np.concatenate([turn, move], 2).astype(np.float64)


def square_corners(matrices: NDArray[np.floating], side: int) -> NDArray[np.float64]:
    """Return (N, 4, 2) corners in the frame, as edges (pixel i covers i to i + 1), of pictures of `side` pixels."""
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float64) - 0.5
    turn, move = matrices[:, :, :2].astype(np.float64), matrices[:, :, 2].astype(np.float64)
    places = np.linalg.solve(turn[:, None], (corners - move[:, None])[..., None])[..., 0]
    return np.asarray(places + 0.5, np.float64)


def shift_origin(matrix: NDArray[np.floating], origin: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return a (2, 3) map from frame pixels as one from the pixels of a region whose first pixel is at `origin`."""
    turn = matrix[:, :2].astype(np.float64)
    return np.concatenate([turn, matrix[:, 2:] + turn @ origin[:, None]], 1).astype(np.float64)


def bounding_boxes(corners: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (N, 4) x0, y0, x1, y1 around (N, P, 2) points."""
    return np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float64)


MATRIX: Final = "matrix"
"""Name of a chunk's array (N, 2, 3) float64 from region pixels to those of the upright picture."""
_OUTWARD: Final = 0.15  # the lower face grows where the mouth opens wider than in the frame


@dataclass(frozen=True)
class AlignedTrack:
    """Position and rotation of the upright pictures of one avatar's face in N source frames."""

    boxes: BoxTrack  # regions; a box encloses the upright picture, the outline the lower face
    matrices: NDArray[np.float64]  # (N, 2, 3) from frame pixels to those of the picture

    @classmethod
    def of(cls, track: FaceTrack, template: NDArray[np.float64], side: int) -> AlignedTrack:
        """Align a tracked face to a template of this module; pictures have `side` pixels."""
        points68 = ibug_points(track.points)
        matrices = align(five_points(points68), template, side)
        boxes = bounding_boxes(square_corners(matrices, side))
        outline = lower_face_outline(points68, _OUTWARD)
        return cls(BoxTrack.of(boxes, outline, patch_share(track.driving_weight)), matrices)

    def crop(self, colour: ColourTags, plan: BoxPlan, frames: Sequence[YuvFrame]) -> BoxChunk:
        """Crop the regions of T output frames; the chunk's arrays hold `MATRIX`."""
        placed = replace(plan, arrays={**plan.arrays, MATRIX: self.matrices[plan.source_index]})
        chunk = crop_boxes(self.boxes, colour, placed, frames)
        moved = [
            shift_origin(matrix, origin) for matrix, origin in zip(chunk.arrays[MATRIX], chunk.origins, strict=True)
        ]
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
