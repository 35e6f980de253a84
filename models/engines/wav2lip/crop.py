"""The input box of the network, placed by landmarks instead of the detector used in training.

Training and the official script use the box of the S3FD detector, which was trained on WIDER FACE, whose annotators
drew boxes around forehead, chin and cheeks (Yang et al., 2016). The bounding box of the mesh's face oval is that box:
its topmost point lies at the hairline, its lowest at the chin. On the mean face it is .77 as wide as high, with the
eyes at 33 % of its height and the mouth at 73 %. S3FD's weights were not available for a comparison face by face.

The script adds 10 pixels below ("pads 0 10 0 0"), for faces about 200 pixels high: 5 % here, at any resolution.

A detector's box follows the chin while the source talks, and is smoothed over 5 frames to reduce noise. Here the box
is that of the talker's average face, placed by the tracked pose, which is smoothed over the whole track, so it moves
only with the head.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.engines.paste.crop import BoxTrack
from models.engines.paste.landmarks68 import FACE_OVAL, ibug_points, lower_face_outline
from models.track.driving_weight import patch_share
from models.track.face_track import FaceTrack

_PAD_BELOW: Final = 0.05  # of the box's height
_MIN_SIDE: Final = 8.0  # pixels of a box inside the frame; faces farther out are not rewritten anyway
# Of the outline's height: 5 % of the box. The feather is about as wide, so that the mask is nearly 1 at the jaw line.
_OUTWARD: Final = 0.13


def track_boxes(track: FaceTrack, width: int, height: int) -> BoxTrack:
    """Place the boxes of one avatar; they end at the edge of the width x height frame, as the official script's do."""
    shown = track.visible if track.visible.any() else np.ones(track.num_frames, np.bool_)
    usual = track.head_points[shown].mean(0, dtype=np.float64)  # (468, 3)
    frames = np.arange(track.num_frames)
    oval = _place(track, frames, usual[list(FACE_OVAL)])  # (N, 36, 2)
    low, high = oval.min(1), oval.max(1)
    high[:, 1] += _PAD_BELOW * (high[:, 1] - low[:, 1])
    boxes = _inside(np.concatenate([low, high], 1), width, height)
    # The rewritten area includes the frame's own jaw and the usual one, whichever is lower.
    own, placed = ibug_points(track.points), ibug_points(_place(track, frames, usual))
    outline = np.concatenate([lower_face_outline(points, _OUTWARD) for points in (own, placed)], 1)
    return BoxTrack.of(boxes, outline, patch_share(track.driving_weight))


def _place(track: FaceTrack, frames: NDArray[np.intp], head: NDArray[np.float64]) -> NDArray[np.float32]:
    """(N, P, 2) pixels of (P, 3) head-frame points that are the same in every frame."""
    return track.place(frames, np.broadcast_to(head, (len(frames), *head.shape)))


def _inside(boxes: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """(N, 4) boxes cut at the frame's edges, unless too little would be left."""
    limit = np.array([width, height, width, height], np.float32)
    clipped = boxes.clip(0, limit)
    sides = clipped[:, 2:] - clipped[:, :2]
    return np.where((sides >= _MIN_SIDE).all(1, keepdims=True), clipped, boxes)
