"""The crops that the warp engine renders from: plain NumPy, so that an object store passes them on without copies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.engines.patches import FacePatches


@dataclass(frozen=True)
class FaceChunk:
    """T output frames, N of them with a face, cut out and ready to render.

    Each crop is stored once: the region of a frame, its exemplar and the exemplar it fades with are rows of a common
    pool of K crops.
    """

    row: NDArray[np.int32]  # (T,) index of the face in the frame, -1 for none
    origins: NDArray[np.int32]  # (N, 2) x, y of the region in the frame
    crops_y: NDArray[np.uint8]  # (K, R, R)
    crops_uv: NDArray[np.uint8]  # (K, 2, R / 2, R / 2)
    crop_points: NDArray[np.float32]  # (K, P, 2) control points in region pixels
    base: NDArray[np.int32]  # (N,) crop of the frame itself
    exemplar: NDArray[np.int32]  # (N,) crop whose mouth is shown
    fade: NDArray[np.int32]  # (N,) crop that is mixed in, -1 for none
    fade_weight: NDArray[np.float32]  # (N,) its weight, 0 to 1
    target_points: NDArray[np.float32]  # (N, P, 2) target control points in region pixels
    interior: NDArray[np.float32]  # (N,) weight of the drawn mouth interior, 0 to 1
    own_teeth: NDArray[np.float32]  # (N,) weight of the exemplar's own teeth over the drawn ones, 0 to 1
    rounding: NDArray[np.float32]  # (N,) how far the lips are rounded, 0 to 1
    bite: NDArray[np.float32]  # (N,) where the jaws meet in the exemplar, as a fraction of its lip gap from above
    hold: NDArray[np.float32]  # (N,) weight of the held mouth (1 in silence), 0 to 1
    eye_distance: NDArray[np.float32]  # (N,) pixels
    seam: NDArray[np.float32]  # (N, 2) region pixels of the middle of the closed lip line, fixed to the skull
    skin: NDArray[np.float32]  # (N, 3) Y, U, V of the cheeks
    lip: NDArray[np.float32]  # (N, 3) Y, U, V of the lower lip
    teeth: NDArray[np.float32]  # (N, 3) Y, U, V of the front teeth; an estimate from skin and eyes if none are visible
    masks: NDArray[np.uint8]  # (V, M, M, 2) textures of the mouth and the jaw mask, for different head rotations
    mask: NDArray[np.int32]  # (N,) mask of each face
    mask_points: NDArray[np.float32]  # (P, 2) control points in texture pixels
    hidden: NDArray[np.float32]  # (N, P) how far control points are out of sight, 0 to 1
    # (N,) weight of the rendered face over the frame, 0 to 1; below 1 next to unchanged frames
    opacity: NDArray[np.float32]

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.row)

    @property
    def region_size(self) -> int:
        """R."""
        return int(self.crops_y.shape[-1])


def fade_to_source(patches: FacePatches, chunk: FaceChunk) -> FacePatches:
    """Blend the rendered faces in place with their original frames, by `chunk.opacity`."""
    for face in np.flatnonzero(chunk.opacity < 1):
        share = np.float32(chunk.opacity[face])
        for done, frames in ((patches.y, chunk.crops_y), (patches.uv, chunk.crops_uv)):
            own = frames[chunk.base[face]].astype(np.float32)
            done[face] = np.rint(own + share * (done[face] - own))
    return patches
