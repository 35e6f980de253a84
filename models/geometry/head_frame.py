"""The head frame: landmarks without head pose, position and size; and names for points of the face mesh.

A similarity fit (Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
PAMI 1991) maps the rigid points of each frame onto the mean face. Head frame: x to the picture's right, y up,
z towards the camera, origin between the outer eye corners, whose distance is 1 on the mean face.
Image frame: x right, y down, z away from the camera, in pixels, as the landmark network gives it.

"Left" and "right" are sides of the image. Lip rows run from the image-left corner (61, 78) to the image-right corner
(291, 308), so that `INNER_UPPER[i]` lies above `INNER_LOWER[i]`.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lipwright.media.array_files import load_array
from models.weights import weights_path

NUM_POINTS = 468

EYE_LEFT, EYE_RIGHT = 33, 263  # outer corners
CORNER_LEFT, CORNER_RIGHT = 61, 291  # of the mouth
# Upper and lower lid edge of the left and of the right eye.
EYES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133)),
    ((362, 398, 384, 385, 386, 387, 388, 466, 263), (362, 382, 381, 380, 374, 373, 390, 249, 263)),
)
# Creases above the lids of both eyes.
LID_CREASES = ((33, 247, 30, 29, 27, 28, 56, 190, 133), (362, 414, 286, 258, 257, 259, 260, 467, 263))
NOSE_BASE, CHIN_TIP = 2, 152
CHEEK_FRONT = (205, 425, 50, 280)  # skin with the same lighting as the area around the mouth

# Points that do not move in speech: forehead, temples, eye corners, nose bridge, wings of the nose.
RIGID = (
    *(10, 151, 9, 8, 168, 6, 197, 195, 5, 4, 67, 109, 297, 338, 54, 284, 127, 356, 162, 389),
    *(33, 133, 362, 263, 129, 358, 98, 327, 2),
)

OUTER_UPPER: tuple[int, ...] = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
OUTER_LOWER: tuple[int, ...] = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
INNER_UPPER: tuple[int, ...] = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LOWER: tuple[int, ...] = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
INNER_MIDDLES = 13, 14  # of the upper lip and of the lower one
MOUTH_MIDDLE = (CORNER_LEFT, CORNER_RIGHT, *INNER_MIDDLES)  # the mean of these
ABOUT_MIDDLE = slice(4, 7)  # of a row: its middle point and its two neighbours
MIDDLE_UPPER = (76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306)
MIDDLE_LOWER = (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306)
LIP_ROWS = OUTER_UPPER, OUTER_LOWER, MIDDLE_UPPER, MIDDLE_LOWER, INNER_UPPER, INNER_LOWER  # each corner to corner
# All 80 lip points in the output order of the lip network; the last two rows lie between the middle of a lip and its
# inner edge.
LIPS = (
    *(*OUTER_LOWER, *OUTER_UPPER[1:-1], *INNER_LOWER, *INNER_UPPER[1:-1], *MIDDLE_LOWER, *MIDDLE_UPPER[1:-1]),
    *(62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292),
    *(183, 42, 41, 38, 12, 268, 271, 272, 407),
)
ABOVE_LIP = (164, 167, 393, 165, 391, 92, 322)
NOSE = (2, 97, 326, 98, 327, 129, 358)
CHIN = (18, 83, 313, 200, 201, 421, 199, 208, 428, 175, 171, 396, 194, 418, 182, 406, 204, 424)
CHEEK = (
    *(205, 425, 206, 426, 216, 436, 212, 432, 207, 427, 214, 434, 202),
    *(422, 186, 410, 57, 287, 43, 273, 192, 416, 187, 411, 50, 280),
)
JAW = (
    *(234, 454, 93, 323, 132, 361, 58, 288, 172, 397, 136),
    *(365, 150, 379, 149, 378, 176, 400, 148, 377, 152),
)
_HELD = frozenset((*NOSE, 234, 454, 93, 323, 50, 280))  # listed above, but too high up to follow the mouth

# Points that a mouth shape moves, ascending.
MOVED = tuple(
    sorted(
        {
            *(*OUTER_UPPER, *OUTER_LOWER, *INNER_UPPER, *INNER_LOWER, *MIDDLE_UPPER, *MIDDLE_LOWER),
            *(*ABOVE_LIP, *CHIN, *CHEEK, *JAW),
        }
        - _HELD
    )
)


# Rotation by 180 degrees between the axes of the head frame and those of the image.
_IMAGE_AXES = np.diag([1.0, -1.0, -1.0])


class HeadPose(NamedTuple):
    """Placement of the head frame in T images: `image = scale * head @ rotation.T + translation`.

    Lengths are in square pixels of the image's pixel height. For images with non-square pixels, x is divided by
    `pixel_aspect` (pixel width over height).
    """

    scale: NDArray[np.float64]  # (T,) pixels per eye distance
    rotation: NDArray[np.float64]  # (T, 3, 3), proper, including the change of axes
    translation: NDArray[np.float64]  # (T, 3) pixels: origin of the head frame
    pixel_aspect: float = 1.0

    def to_image(self, head: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map (T, P, 3) head-frame points to (T, P, 3) pixels of the T images."""
        turned = np.asarray(head, np.float64) @ self.rotation.swapaxes(1, 2)
        return (self.scale[:, None, None] * turned + self.translation[:, None]) / self._stretch

    def same_to_image(self, head: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map the same (P, 3) head-frame points to (T, P, 3) pixels of each of the T images."""
        turned = self.rotation.reshape(-1, 3) @ np.asarray(head, np.float64).T  # (T * 3, P)
        places = self.scale[:, None, None] * turned.reshape(len(self.scale), 3, -1) + self.translation[:, :, None]
        return places.swapaxes(1, 2) / self._stretch

    def to_head(self, image: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map (T, P, 3) image points to the head frame."""
        centred = np.asarray(image, np.float64) * self._stretch - self.translation[:, None]
        return centred @ self.rotation / self.scale[:, None, None]

    @property
    def _stretch(self) -> NDArray[np.float64]:
        return stretch_of(self.pixel_aspect)


def stretch_of(pixel_aspect: float) -> NDArray[np.float64]:
    """Return the (3,) factors that make pixels with this width-to-height ratio square."""
    return np.array([pixel_aspect, 1.0, 1.0])


@cache
def mean_face() -> NDArray[np.float64]:
    """Return the read-only (468, 3) mean closed-mouth face in the head frame.

    Made from speakers of the GRID corpus (Cooke et al., JASA 2006, CC BY 4.0).
    """
    face: NDArray[np.float64] = load_array(weights_path("mean_face_468.npy")).astype(np.float64)
    face.flags.writeable = False
    return face


def fit_head_pose(points: NDArray[np.floating], pixel_aspect: float = 1.0) -> HeadPose:
    """Fit each frame's rigid points, of (T, 468, 3) landmarks in image pixels, to the mean face.

    Returns:
        The pose that minimises the squared distance to the mean face, measured in the head frame.
    """
    if points.ndim != 3 or points.shape[1:] != (NUM_POINTS, 3):
        raise ValueError(f"Expected (T, {NUM_POINTS}, 3) points, got {points.shape = }.")
    rigid = list(RIGID)
    source, target = points[:, rigid] * stretch_of(pixel_aspect), mean_face()[rigid]
    source_mean, target_mean = source.mean(1), target.mean(0)
    a, b = source - source_mean[:, None], target - target_mean
    u, singular, vt = np.linalg.svd(a.swapaxes(1, 2) @ b)  # (T, 3, 3)
    signs = np.ones((len(points), 3))
    signs[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * signs[:, None]) @ vt
    scale = (a**2).sum((1, 2)) / (singular * signs).sum(1)
    translation = source_mean - scale[:, None] * (target_mean @ rotation.swapaxes(1, 2))
    return HeadPose(scale, rotation, translation, pixel_aspect)


def pose_degrees(rotation: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the (T, 3) yaw, pitch and roll in degrees of (T, 3, 3) head rotations; zero faces the camera.

    Yaw is positive when the nose points to the image's right, pitch when it points up, roll when the head is
    rotated clockwise in the image.
    """
    from scipy.spatial.transform import Rotation  # takes a second to import: only load it when a pose is needed

    angles = Rotation.from_matrix(rotation @ _IMAGE_AXES).as_euler("YXZ", degrees=True)
    signed: NDArray[np.float32] = (angles * [-1.0, -1.0, 1.0]).astype(np.float32)
    return signed
