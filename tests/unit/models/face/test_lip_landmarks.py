"""Where the lips are found, on the sample avatar."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from media.probe import ColourTags
from media.yuv_frame import YuvFrame, from_rgb, to_rgb
from models.face.landmarks import FaceLandmarker, LandmarkRegion, LipLandmarker
from models.geometry.face_points import ABOUT_MIDDLE, EYE_LEFT, EYE_RIGHT, INNER_LOWER, INNER_UPPER, LIPS
from tests.unit.models.conftest import Filmed


class Talk(NamedTuple):
    """Frames of somebody who talks."""

    frames: list[YuvFrame]
    colour: ColourTags
    points: NDArray[np.float32]  # (N, 468, 3)
    mesh: NDArray[np.float32]  # (N, 468, 3) as the face mesh alone has them


def _as_the_mesh_has_them(
    landmarker: LipLandmarker, picture: NDArray[np.float32], lips: NDArray[np.float64]
) -> NDArray[np.float64]:
    return lips


@pytest.fixture(scope="module")
def talk(filmed_sample: Filmed, landmarker: FaceLandmarker) -> Talk:
    """Every other frame."""
    assert filmed_sample.raw.present.all()
    colour, frames = filmed_sample.info.colour, filmed_sample.frames[::2]
    regions = [LandmarkRegion.of_points(points) for points in filmed_sample.raw.points[::2]]
    points, mesh = [], []
    with pytest.MonkeyPatch.context() as patch:
        for frame, region in zip(frames, regions, strict=True):
            points.append(landmarker(frame, colour, region)[0])
        patch.setattr(LipLandmarker, "__call__", _as_the_mesh_has_them)
        for frame, region in zip(frames, regions, strict=True):
            mesh.append(landmarker(frame, colour, region)[0])
    return Talk(frames, colour, np.stack(points), np.stack(mesh))


def _gaps(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) eye distances between the inner lips, in the middle."""
    upper, lower = (points[:, list(rim[ABOUT_MIDDLE]), :2] for rim in (INNER_UPPER, INNER_LOWER))
    eyes = np.linalg.norm(points[:, EYE_LEFT, :2] - points[:, EYE_RIGHT, :2], axis=1)
    return np.asarray(np.linalg.norm(upper - lower, axis=2).mean(1) / eyes, np.float32)


def test_lip_landmarks_replace_only_the_lips_of_the_mesh(talk: Talk) -> None:
    assert len(set(LIPS)) == 80
    eyes = np.linalg.norm(talk.points[:, EYE_LEFT, :2] - talk.points[:, EYE_RIGHT, :2], axis=1).mean()
    apart = np.linalg.norm(talk.points - talk.mesh, axis=2).mean(0) / eyes  # (468,)
    assert 0 < apart[list(LIPS)].max() < 0.06  # in another order some would be far away
    assert np.delete(apart, LIPS).max() == 0


def test_lip_landmarks_gaps_are_wider_than_the_meshs(talk: Talk) -> None:
    gaps, by_mesh = _gaps(talk.points), _gaps(talk.mesh)
    assert np.quantile(gaps, 0.1) < 0.005
    assert gaps.max() > 0.08
    assert gaps.std() > 1.2 * by_mesh.std()
    assert np.corrcoef(gaps, by_mesh)[0, 1] > 0.85


@pytest.mark.parametrize(("zoom", "degrees"), [(0.6, 0.0), (1.8, 0.0), (1.0, 35.0)])
def test_lip_landmarks_move_with_the_picture(
    talk: Talk, landmarker: FaceLandmarker, zoom: float, degrees: float
) -> None:
    middle = len(talk.frames) // 2
    frame, before = talk.frames[middle], talk.points[middle]
    picture = to_rgb(frame, talk.colour)
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, zoom)
    matrix[:, 2] += [width * zoom / 2 - width / 2, height * zoom / 2 - height / 2]
    size = round(width * zoom / 2) * 2, round(height * zoom / 2) * 2
    drawn = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    expected = np.column_stack([before[:, :2] @ matrix[:, :2].T + matrix[:, 2], zoom * before[:, 2]])
    found, _ = landmarker(
        from_rgb(np.asarray(drawn, np.uint8), talk.colour), talk.colour, LandmarkRegion.of_points(expected)
    )
    eyes = np.linalg.norm(expected[EYE_LEFT, :2] - expected[EYE_RIGHT, :2])
    assert np.linalg.norm(found[list(LIPS), :2] - expected[list(LIPS), :2], axis=1).max() / eyes < 0.03
