"""Where the box that an engine rewrites lies in every source frame."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.array_files import load_arrays

_STEP: Final = 16  # a region's side is a multiple of this
_MARGIN: Final = 4  # pixels around the largest box: chroma is interpolated from beside it, and origins are even


@dataclass(frozen=True)
class BoxTrack:
    """The boxes of one avatar with N source frames.

    Attributes:
        size: Side R of the region that is cut, the same for all frames; even.
        origins: (N, 2) int32 x, y of the region's upper left pixel in the frame; even, may be negative.
        boxes: (N, 4) float32 x0, y0, x1, y1 of the network's picture, in region pixels.
        outline: (N, P, 2) float32 points whose convex hull is rewritten, in region pixels.
        opacity: (N,) float32 share of the painted face over the frame, 0 to 1; 0 in frames that pass.
    """

    size: int
    origins: NDArray[np.int32]
    boxes: NDArray[np.float32]
    outline: NDArray[np.float32]
    opacity: NDArray[np.float32]

    @classmethod
    def of(cls, boxes: NDArray[np.floating], outline: NDArray[np.floating], opacity: NDArray[np.floating]) -> BoxTrack:
        """Lay regions around boxes.

        Args:
            boxes: (N, 4) x0, y0, x1, y1 in frame pixels: edges, so that pixel i covers i to i + 1.
            outline: (N, P, 2) frame pixels.
            opacity: (N,) see above; `models.track.trust.patch_share` of the track's trust.

        Raises:
            ValueError: Shapes that do not belong together, or a box without area.
        """
        num = len(boxes)
        if boxes.shape != (num, 4) or outline.shape[:1] + outline.shape[2:] != (num, 2) or opacity.shape != (num,):
            shapes = (boxes.shape, outline.shape, opacity.shape)
            raise ValueError(f"Expected (N, 4), (N, P, 2), (N,), got {shapes}.")
        sides = boxes[:, 2:] - boxes[:, :2]
        if not (sides > 0).all():
            raise ValueError(f"Expected boxes with x0 < x1 and y0 < y1, got sides of {sides.min()}.")
        used = sides[opacity > 0] if (opacity > 0).any() else sides
        size = int(np.ceil((used.max() + 2 * _MARGIN) / _STEP)) * _STEP
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        origins = (np.rint((middle - size / 2) / 2) * 2).astype(np.int32)
        local = boxes - np.tile(origins, 2)
        return cls(
            size=size,
            origins=origins,
            boxes=local.astype(np.float32),
            outline=(outline - origins[:, None]).astype(np.float32),
            opacity=opacity.astype(np.float32),
        )

    @property
    def num_frames(self) -> int:
        """N."""
        return len(self.origins)

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        with path.open("wb") as file:
            np.savez(file, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> BoxTrack:
        """Read what `save` wrote."""
        arrays = load_arrays(path)
        return cls(size=int(arrays.pop("size")), **arrays)
