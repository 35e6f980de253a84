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

    Attributes:
        row: (T,) int32 index of the face in the frame, -1 for none.
        origins: (N, 2) int32 x, y of the region in the frame.
        crops_y: (K, R, R) uint8.
        crops_uv: (K, 2, R / 2, R / 2) uint8.
        crop_points: (K, P, 2) float32 control points in region pixels.
        base: (N,) int32 crop of the frame itself.
        exemplar: (N,) int32 crop whose mouth is shown.
        fade: (N,) int32 crop that is mixed in, -1 for none.
        fade_weight: (N,) float32 its weight, 0 to 1.
        target_points: (N, P, 2) float32 target control points in region pixels.
        interior: (N,) float32 weight of the drawn mouth interior, 0 to 1.
        own_teeth: (N,) float32 weight of the exemplar's own teeth over the drawn ones, 0 to 1.
        bite: (N,) float32 where the jaws meet in the exemplar, as a fraction of its lip gap from above.
        hold: (N,) float32 weight of the held mouth (1 in silence), 0 to 1.
        eye_distance: (N,) float32 pixels.
        seam: (N, 2) float32 region pixels of the middle of the closed lip line, fixed to the skull.
        skin: (N, 3) float32 Y, U, V of the cheeks.
        lip: (N, 3) float32 Y, U, V of the lower lip.
        teeth: (N, 3) float32 Y, U, V of the front teeth; an estimate from skin and eyes if none are visible.
        masks: (V, M, M, 2) uint8 textures of the mouth and the jaw mask, for different head rotations.
        mask: (N,) int32 mask of each face.
        mask_points: (P, 2) float32 control points in texture pixels.
        opacity: (N,) float32 weight of the rendered face over the frame, 0 to 1; below 1 next to unchanged frames.
    """

    row: NDArray[np.int32]
    origins: NDArray[np.int32]
    crops_y: NDArray[np.uint8]
    crops_uv: NDArray[np.uint8]
    crop_points: NDArray[np.float32]
    base: NDArray[np.int32]
    exemplar: NDArray[np.int32]
    fade: NDArray[np.int32]
    fade_weight: NDArray[np.float32]
    target_points: NDArray[np.float32]
    interior: NDArray[np.float32]
    own_teeth: NDArray[np.float32]
    bite: NDArray[np.float32]
    hold: NDArray[np.float32]
    eye_distance: NDArray[np.float32]
    seam: NDArray[np.float32]
    skin: NDArray[np.float32]
    lip: NDArray[np.float32]
    teeth: NDArray[np.float32]
    masks: NDArray[np.uint8]
    mask: NDArray[np.int32]
    mask_points: NDArray[np.float32]
    opacity: NDArray[np.float32]

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.row)

    @property
    def region_size(self) -> int:
        """R."""
        return int(self.crops_y.shape[-1])


def faded(patches: FacePatches, chunk: FaceChunk) -> FacePatches:
    """Blends the rendered faces in place with their original frames, by `chunk.opacity`."""
    for face in np.flatnonzero(chunk.opacity < 1):
        share = np.float32(chunk.opacity[face])
        for done, frames in ((patches.y, chunk.crops_y), (patches.uv, chunk.crops_uv)):
            own = frames[chunk.base[face]].astype(np.float32)
            done[face] = np.rint(own + share * (done[face] - own))
    return patches
