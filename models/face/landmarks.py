"""Finds the 468 points of a face mesh in a rotated square of an image.

Network: `face_landmark_468.onnx` (Apache-2.0, Google; Kartynnik et al., "Real-time facial surface geometry from
monocular video on mobile GPUs", 2019). It runs one face per call, as batching saves nothing on a CPU. It underestimates
lip movement (.67 to .99 of it, depending on the channel), so a second network refines the lips.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.output.dynamic_range import to_sdr_rgb
from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame
from models.face.detection import FaceBox
from models.geometry.head_frame import CORNER_LEFT, CORNER_RIGHT, EYE_LEFT, EYE_RIGHT, LIPS, NUM_POINTS, fit_head_pose
from models.weights import weights_path
from models.weights.onnx_session import Device, make_session

_CROP_SIDE, _FEATURE_SIDE = 16, 48
_FEATURE = 4  # image pixels per feature cell
_CROP_SHARE = 1.5  # size of the crop relative to the lips
_PLACES = np.stack(np.meshgrid(*2 * [np.arange(_CROP_SIDE) + 0.5]), -1)  # (16, 16, 2) x, y in the crop
_CORNERS = [LIPS.index(CORNER_LEFT), LIPS.index(CORNER_RIGHT)]


class LipLandmarker:
    """Finds the 80 lip points more accurately than the face mesh does.

    Network: `lip_landmarks_80.onnx` (Apache-2.0, Google; the lip branch of Grishchenko et al., "Attention mesh:
    high-fidelity face mesh prediction in real-time", 2020). It takes the same image as the face mesh and samples its
    own features at 16 x 16 positions around the lips found by the mesh.
    """

    def __init__(self, num_threads: int, device: Device) -> None:
        self._session = make_session(weights_path("lip_landmarks_80.onnx"), num_threads=num_threads, device=device)

    def __call__(self, picture: NDArray[np.float32], lips: NDArray[np.floating]) -> NDArray[np.float64]:
        """Refine the (80, 2) points `face_points.LIPS` of the mesh, in pixels of the image.

        `picture` is the input of the face mesh: (1, 192, 192, 3) RGB, 0 to 1.
        """
        matrix, origin = _crop(lips / _FEATURE)
        places = _PLACES @ matrix.T + origin - 0.5
        grid = 2 * places / (_FEATURE_SIDE - 1) - 1  # -1 and 1 are the first and the last cell
        found = self._session.run(None, {"picture": picture, "grid": grid[None].astype(np.float32)})[0][0]
        return np.asarray(found @ matrix.T + _FEATURE * origin, np.float64)


def _crop(lips: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the (2, 2) matrix and (2,) origin that map the crop around (80, 2) lips to feature cells.

    The crop is rotated so that the line through the mouth corners is level.
    """
    left, right = lips[_CORNERS]
    along = (right - left) / max(float(np.hypot(*(right - left))), 1e-6)
    axes = np.array([[along[0], -along[1]], [along[1], along[0]]])
    level = lips @ axes
    low, high = level.min(0), level.max(0)
    matrix = axes * (_CROP_SHARE * (high - low) / _CROP_SIDE)
    return matrix, axes @ ((low + high) / 2) - matrix @ (2 * [_CROP_SIDE / 2])


# Presence logit above which the region contains a face: a probability of 0.5, as in MediaPipe's graph.
MIN_PRESENCE: Final = 0.0

_INPUT_SIDE = 192
_REGION_SHARE = 1.5  # side of the region relative to the side of the face
# The networks lose heads that are turned far, because they are narrow: relative to the eye distance, lips of heads
# turned by 65 degrees are .06 to .13 off, and .035 to .045 if the picture is stretched (four synthetic speakers,
# `docs/experiments.md`). Cosine of the measured yaw from which a head is stretched: 36 degrees, which are 45 in fact.
_NARROWEST, _MAX_STRETCH = float(np.cos(np.deg2rad(36))), 1.6
_CHROMA_SIDE = _INPUT_SIDE // 2
# Dark images are brightened: at a tenth of the light this reduces the scatter of the points by a quarter (five
# speakers, sensor noise added). The level, 0 to 255, is the 0.9 quantile of brightness in the middle of the region.
_USUAL_LEVEL, _LEVEL_QUANTILE, _MAX_BRIGHTENED = 120.0, 0.9, 6.0
_MIDDLE = slice(24, 168, 6)
_LIPS = list(LIPS)


class LandmarkRegion(NamedTuple):
    """A rotated rectangle of a frame, in pixels (pixel centres at integers); the networks see it as a square."""

    center_x: float
    center_y: float
    side: float  # height
    angle: float  # radians, clockwise in the image: direction of the upper edge
    stretch: float = 1.0  # height over width: how much wider the networks see a face than it is

    @classmethod
    def of_box(cls, box: FaceBox) -> LandmarkRegion:
        """Return the region in which to look for the points of a detected face."""
        return cls(box.center_x, box.center_y, _REGION_SHARE * box.size, box.angle)

    @classmethod
    def of_points(cls, points: NDArray[np.floating]) -> LandmarkRegion:
        """Return the region around (468, 3) known points, rotated so that the eyes are level.

        A head turned farther than 45 degrees is about as wide in it as one turned by 45 degrees.
        """
        flat = np.asarray(points[:, :2], np.float64)
        across = flat[EYE_RIGHT] - flat[EYE_LEFT]
        angle = float(np.arctan2(across[1], across[0]))
        turn = _turn(angle)
        level = flat @ turn  # image -> axes of the region
        low, high = level.min(0), level.max(0)
        center = turn @ ((low + high) / 2)
        forward = fit_head_pose(points[None]).rotation[0, :2, 2] @ turn  # where the face looks; x is the sine of yaw
        width_squared = float(1 - forward[0] ** 2)
        # The ratio of the widths, squared: the mesh lags behind the head, more the farther it turns.
        stretch = float(np.clip(_NARROWEST**2 / max(width_squared, 0.1), 1.0, _MAX_STRETCH))
        side = _REGION_SHARE * float(((high - low) * [stretch, 1]).max())
        return cls(float(center[0]), float(center[1]), side, angle, stretch)

    def mix(self, other: LandmarkRegion, share: float) -> LandmarkRegion:
        """Interpolate to another region by `share` (0..1)."""
        turned = (other.angle - self.angle + np.pi) % (2 * np.pi) - np.pi
        target = other._replace(angle=self.angle + float(turned))
        return LandmarkRegion(*(a + share * (b - a) for a, b in zip(self, target, strict=True)))


class FaceLandmarker:
    """The landmark networks."""

    def __init__(self, num_threads: int, device: Device) -> None:
        self._session = make_session(weights_path("face_landmark_468.onnx"), num_threads=num_threads, device=device)
        self._lips = LipLandmarker(num_threads, device)

    def __call__(
        self, frame: YuvFrame, colour: ColourTags, region: LandmarkRegion
    ) -> tuple[NDArray[np.float32], float]:
        """Find the points of the face in `region`.

        Returns:
            (468, 3) float32 frame pixels (x right, y down, z away from the camera, on the scale of x), and the
            presence logit; above `MIN_PRESENCE` there is a face.
        """
        picture = to_sdr_rgb(cut_region(frame, region), colour)  # (192, 192, 3) RGB
        light = np.minimum(picture[None] * (_brightness_factor(picture) / np.float32(255)), np.float32(1))
        values, presence = self._session.run(["conv2d_21", "conv2d_31"], {"input_1": light})
        points = values.reshape(NUM_POINTS, 3).astype(np.float64)
        points[_LIPS, :2] = self._lips(light, points[_LIPS, :2])
        points[:, :2] -= _INPUT_SIDE / 2
        points *= region.side / _INPUT_SIDE
        points[:, 0] /= region.stretch
        points[:, :2] = points[:, :2] @ _turn(region.angle).T + [region.center_x, region.center_y]
        return points.astype(np.float32), float(presence.item())


def _brightness_factor(picture: NDArray[np.uint8]) -> np.float32:
    """Return the factor (1 or more) that brings a dark (192, 192, 3) image to the brightness of the training data."""
    levels = picture[_MIDDLE, _MIDDLE].mean(-1).ravel()
    rank = round(_LEVEL_QUANTILE * (levels.size - 1))
    level = float(np.partition(levels, rank)[rank])
    return np.float32(np.clip(_USUAL_LEVEL / max(level, 1.0), 1.0, _MAX_BRIGHTENED))


def cut_region(frame: YuvFrame, region: LandmarkRegion) -> YuvFrame:
    """Cut a region out of the planes, rotated upright and scaled to 192 x 192 luma pixels.

    The cost does not depend on the size of the frame. A region much larger than the result is averaged down first to
    avoid aliasing. Outside the frame the edge is repeated.
    """
    factor = max(1, round(region.side / _INPUT_SIDE))
    x, y, chroma_x, chroma_y = region.center_x, region.center_y, region.center_x / 2 - 0.25, region.center_y / 2 - 0.25
    return YuvFrame(
        _sample(frame.y, (x, y), region, _INPUT_SIDE, factor),
        _sample(frame.u, (chroma_x, chroma_y), region, _CHROMA_SIDE, factor),
        _sample(frame.v, (chroma_x, chroma_y), region, _CHROMA_SIDE, factor),
    )


def _sample(
    plane: NDArray[np.uint8], center: tuple[float, float], region: LandmarkRegion, side: int, factor: int
) -> NDArray[np.uint8]:
    """Sample a region around a place in a plane to (side, side), averaged by `factor` first."""
    scale = region.side / _INPUT_SIDE  # the same for chroma: half as many pixels of half as large a plane
    place, origin, turn = np.array(center), np.zeros(2), _turn(region.angle)
    if factor > 1:
        reach = np.abs(turn) @ [scale * side / 2 / region.stretch, scale * side / 2] + 3 * factor
        plane, origin = _average_around(plane, place, reach, factor)
    # Pixel centres are at integers; the first one of the averaged plane is at (factor - 1) / 2.
    matrix = np.empty((2, 3))
    matrix[:, :2] = turn * (scale / factor / np.array([region.stretch, 1.0]))
    middle = (place - origin - (factor - 1) / 2) / factor
    matrix[:, 2] = middle - matrix[:, :2] @ [(side - 1) / 2, (side - 1) / 2]
    return np.asarray(
        cv2.warpAffine(
            plane, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        ),
        np.uint8,
    )


def _average_around(
    plane: NDArray[np.uint8], center: NDArray[np.float64], reach: NDArray[np.float64], factor: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Average blocks of factor x factor up to `reach` from a place; return the small plane and its origin."""
    size = np.array(plane.shape[::-1])
    x0, y0 = np.clip(center - reach, 0, size - factor).astype(int) // factor * factor
    x1, y1 = np.clip(center + reach, 0, size).astype(int)
    columns, rows = max(1, (x1 - x0) // factor), max(1, (y1 - y0) // factor)
    block = plane[y0 : y0 + rows * factor, x0 : x0 + columns * factor]
    small = cv2.resize(block, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), np.array([x0, y0], np.float64)


def _turn(angle: float) -> NDArray[np.float64]:
    """Return the (2, 2) rotation from region axes to frame axes."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])
