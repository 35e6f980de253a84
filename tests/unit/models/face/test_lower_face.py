import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from media.yuv_frame import YuvFrame
from models.face.lower_face import CELLS, Affine, HeadFollower, Picture, eye_distance, grid_of, then, transformed
from models.geometry.head_frame import HeadPose, mean_face

SIDE, EYES = 360, 130.0  # pixels; the eyes are far enough apart for pictures to be reduced
UNMOVED = np.hstack([np.eye(2), np.zeros((2, 1))])


def face() -> NDArray[np.float64]:
    """(468, 3) landmarks that face the camera."""
    place = HeadPose(np.array([EYES]), np.diag([1.0, -1.0, -1.0])[None], np.array([[SIDE / 2, SIDE * 0.38, 0]]))
    return np.asarray(place.to_image(mean_face()[None])[0])


def textured(seed: int) -> YuvFrame:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, (SIDE, SIDE)), (0, 0), 4.0)
    luma = (140 + 25 * noise / noise.std()).clip(0, 255).astype(np.uint8)
    half = luma[::2, ::2].copy()
    return YuvFrame(luma, half, 255 - half)


def moved(frame: YuvFrame, by: Affine) -> YuvFrame:
    half = np.hstack([by[:, :2], by[:, 2:] / 2])
    return YuvFrame(
        *(
            np.asarray(cv2.warpAffine(plane, way, plane.shape[::-1], borderMode=cv2.BORDER_REFLECT), np.uint8)
            for plane, way in zip(frame, (by, half, half), strict=True)
        )
    )


def turn(degrees: float, scale: float, x: float, y: float) -> Affine:
    way = np.asarray(cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), degrees, scale), np.float64)
    return then(way, np.array([[1, 0, x], [0, 1, y]], np.float64))


@pytest.mark.parametrize("way", [turn(0, 1, 0, 0), turn(3, 1.02, 4, -3), turn(-5, 0.97, -7, 5)])
def test_find_head_with_covered_lower_face(way: Affine) -> None:
    points, frame = face(), textured(1)
    there, other = moved(frame, way), textured(2)
    for plane, strange, step in zip(there, other, (1, 2, 2), strict=True):
        plane[SIDE * 5 // 9 // step :] = strange[SIDE * 5 // 9 // step :]
    follower = HeadFollower(Picture.of(frame, points, points), points)
    # The landmarks of a covered face are wrong: they only say where to cut.
    motion, share = follower.find(Picture.of(there, points + 9.0, points), UNMOVED)
    lower = points[[13, 152, 205, 425], :2]
    error = np.linalg.norm(transformed(lower, motion) - transformed(lower, way), axis=1).max()
    assert error < 0.02 * EYES
    assert share > 0.5


def test_find_other_head_or_flat_face_has_no_share() -> None:
    points, grey = face(), YuvFrame(*(np.full((SIDE // n, SIDE // n), 128, np.uint8) for n in (1, 2, 2)))
    for first, second, most in ((textured(1), textured(7), 0.2), (grey, grey, 0)):
        follower = HeadFollower(Picture.of(first, points, points), points)
        assert follower.find(Picture.of(second, points, points), UNMOVED).share <= most


def test_view_of_a_moved_face_is_the_same() -> None:
    points, frame, way = face(), textured(3), turn(4, 1.03, 5, 2)
    grid = grid_of(points)
    first = Picture.of(frame, points, points).view(grid)
    second = Picture.of(moved(frame, way), transformed(points, way), points).view(then(grid, way))
    assert first.shape == (CELLS, CELLS, 3)
    inner = np.s_[12:-12, 12:-12]
    assert np.abs(first[inner] - second[inner]).mean() < 2.0
    assert np.abs(first[inner] - second[inner][::-1]).mean() > 10.0
    corner, opposite = transformed(np.array([[0.0, 0.0], [CELLS - 1.0, CELLS - 1.0]]), grid)
    lower = points[[13, 152, 172, 397], :2]
    assert (lower > corner).all()
    assert (lower < opposite).all()
    assert (opposite - corner)[0] == pytest.approx(1.7 * eye_distance(points), rel=0.02)
