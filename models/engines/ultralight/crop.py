"""Where the network's picture lies on the face, and what of it is masked.

face_utils.py of anliyuan/Ultralight-Digital-Human: a square from the x of jaw points 1 and 31 and the y of point 52 of
a PFLD with 110 points, resized to 168 pixels; the network sees the 160 in its middle, so that a border of 4 stays as it
was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.engines.paste.crop import BoxTrack
from models.engines.paste.landmarks68 import ibug_points, lower_face_outline
from models.engines.ultralight.variants import SIDE
from models.track.driving_weight import patch_share

if TYPE_CHECKING:
    from models.track.face_track import FaceTrack

CROP: Final = 168
BORDER: Final = 4
# cv2.rectangle of x, y, width, height 5, 5, 150, 145, filled: rows 5 to 149, columns 5 to 154 of the 160.
MASK_ROWS: Final = slice(5, 150)
MASK_COLUMNS: Final = slice(5, 155)

# PFLD's jaw points 1 and 31 lie midway between the iBUG points 0 and 1, 15 and 16, but its jaw is wider than the
# mesh's: 1.671 distances of the outer eye corners on its mean face (ultralight/face_detect_utils/mean_face.txt of
# lipku/LiveTalking), 1.557 on ours (models/weights/mean_face_468.npy).
_WIDEN: Final = 1.671 / 1.557
# Its point 52 is the second of the nose's ridge from below, .244 such distances under the eyes; the iBUG points 28 and
# 29 lie .119 and .272 under them.
_RIDGE_UPPER, _RIDGE_LOWER, _RIDGE_SHARE = 28, 29, (0.244 - 0.119) / (0.272 - 0.119)
# The lower face moves down and outwards when the mouth opens wider than in the frame.
_OUTWARD: Final = 0.15


def face_boxes(points68: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (N, 4) squares x0, y0, x1, y1 of the 168 pixels, in frame pixels, for (N, 68, 2) points."""
    left, right = points68[:, [0, 1], 0].mean(1), points68[:, [15, 16], 0].mean(1)
    middle, half = (left + right) / 2, np.maximum((right - left) / 2, 1.0) * _WIDEN
    upper, lower = points68[:, _RIDGE_UPPER, 1], points68[:, _RIDGE_LOWER, 1]
    top = upper + _RIDGE_SHARE * (lower - upper)
    return np.stack([middle - half, top, middle + half, top + 2 * half], 1).astype(np.float64)


def inner_boxes(crops: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (N, 4) squares of the 160 pixels in the middle of those of 168."""
    pixel = (crops[:, 2:] - crops[:, :2]) / CROP
    return np.concatenate([crops[:, :2] + BORDER * pixel, crops[:, 2:] - BORDER * pixel], 1).astype(np.float64)


def rewritten_outline(points68: NDArray[np.floating], inner: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (N, P, 2) points around the lower face, all inside the masked rectangle."""
    pixel = (inner[:, None, 2:] - inner[:, None, :2]) / SIDE
    low = inner[:, None, :2] + pixel * np.array([MASK_COLUMNS.start, MASK_ROWS.start])
    high = inner[:, None, :2] + pixel * np.array([MASK_COLUMNS.stop, MASK_ROWS.stop])
    return np.clip(lower_face_outline(points68, _OUTWARD), low, high).astype(np.float64)


def box_track(track: FaceTrack) -> BoxTrack:
    """Place the boxes of an avatar."""
    points68 = ibug_points(track.points)
    inner = inner_boxes(face_boxes(points68))
    return BoxTrack.of(inner, rewritten_outline(points68, inner), patch_share(track.driving_weight))


def network_pictures(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Build the (N, 6, 160, 160) float32 input, 0 to 1, from (N, 160, 160, 3) uint8 BGR faces.

    The reference comes first, which is the frame itself as in inference.py, then the masked frame.
    """
    pictures = np.empty((len(faces), 6, SIDE, SIDE), np.float32)
    pictures[:, :3] = faces.transpose(0, 3, 1, 2)
    pictures[:, :3] /= 255
    pictures[:, 3:] = pictures[:, :3]
    pictures[:, 3:, MASK_ROWS, MASK_COLUMNS] = 0
    return pictures
