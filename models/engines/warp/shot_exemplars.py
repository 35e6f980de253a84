"""Which exemplars a frame may show: those of its own shot, and of shots that are like it.

Exemplars are matched to a frame by pose and light one by one; between shots the camera, the lamps and the lens change
as well, and a mouth from elsewhere does not fit however it is turned. Shots that only jump in time are one scene.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.engines.warp.exemplar_bank import LUMA_LEVELS, POSE_DEGREES, ExemplarBank
from models.track.face_track import FaceTrack

_SCALE = 1.35  # a mouth shown larger than this is blurred, one shown smaller is too sharp
_ALIKE = 0.8  # correlation of the mean thumbnails: shading, beard, and where the light comes from


def forbidden_between_shots(bank: ExemplarBank, track: FaceTrack) -> NDArray[np.bool_]:
    """Returns (S, B) bool: the exemplars of B that frames of shot S may not show."""
    num_shots = int(track.shot[-1]) + 1
    home = track.shot[bank.frames]  # (B,)
    allowed = home == np.arange(num_shots)[:, None]
    held = np.unique(home)
    rows = [np.flatnonzero(home == shot) for shot in held]
    thumbs = np.stack([_unit(bank.thumbs[own].mean(0)) for own in rows])
    luma = np.array([np.median(bank.luma[own]) for own in rows])
    pose = np.stack([np.median(bank.pose[own], 0) for own in rows])
    scale = np.array([np.median(np.log(track.scale[bank.frames[own]])) for own in rows])
    akin = (
        (thumbs @ thumbs.T > _ALIKE)
        & (np.abs(luma[:, None] - luma) < LUMA_LEVELS)
        & (np.abs(pose[:, None] - pose).max(-1) < POSE_DEGREES)
        & (np.abs(scale[:, None] - scale) < np.log(_SCALE))
    )
    for number, shot in enumerate(held):
        allowed[shot] |= np.isin(home, held[akin[number]])
    return np.asarray(~allowed)


def _unit(thumb: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(thumb / max(float(np.linalg.norm(thumb)), 1e-6))
