"""The head frame: landmarks without head pose, position and size.

A similarity fit (Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
PAMI 1991) maps the rigid points of each frame onto the mean face. Head frame: x to the picture's right, y up,
z towards the camera, origin between the outer eye corners, whose distance is 1 on the mean face.
Image frame: x right, y down, z away from the camera, in pixels, as the landmark network gives it.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from media.array_files import load_array
from models.geometry.face_points import NUM_POINTS, RIGID
from models.weights import weights_path

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
