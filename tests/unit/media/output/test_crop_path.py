from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from media.output.crop_path import FaceBoxes, crop_path

FRAME, CROP, FPS = (1920, 1080), (608, 1080), 25.0
FACE = 250


def _boxes(x: NDArray[np.floating], cuts: tuple[int, ...] = (), switches: tuple[int, ...] = ()) -> FaceBoxes:
    low = np.stack([x - FACE / 2, np.full(len(x), 300)], 1).astype(np.float32)
    flags = [np.isin(np.arange(len(x)), where) for where in (cuts, switches)]
    return FaceBoxes(low, low + np.float32(FACE), flags[0], flags[1])


def _inside(boxes: FaceBoxes, path: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray((boxes.low >= path).all(1) & (boxes.high <= path + np.array(CROP, np.float32)).all(1))


def test_crop_path_swaying_face_keeps_the_crop() -> None:
    noise = np.random.default_rng(1).normal(0, 4, 500)
    boxes = _boxes(960 + 25 * np.sin(np.arange(500) / 12) + noise)
    path = crop_path(boxes, FRAME, CROP, FPS)
    assert np.ptp(path, axis=0).max() == 0 and (path % 2 == 0).all()
    assert _inside(boxes, path).all()
    assert abs(path[0, 0] + CROP[0] / 2 - 960) < 30, "the face is in the middle"


def test_crop_path_follows_a_walking_face_smoothly() -> None:
    # Across the frame and back: 1400 pixels in six seconds, with jitter as landmarks have.
    x = 260 + 1400 * (0.5 - 0.5 * np.cos(np.arange(600) / 600 * 4 * np.pi))
    boxes = _boxes(x + np.random.default_rng(2).normal(0, 1.5, 600))
    path = crop_path(boxes, FRAME, CROP, FPS)
    assert _inside(boxes, path).all()
    assert path.min() >= 0 and path[:, 0].max() <= FRAME[0] - CROP[0]
    speed = np.diff(path[:, 0])
    assert np.abs(speed).max() < 16, "hardly faster than the face, 14.7 pixels a frame"
    assert np.abs(np.diff(speed)).max() < 3, "without jerks"


def test_crop_path_jumps_only_at_cuts() -> None:
    x = np.where(np.arange(200) < 100, 400.0, 1500.0)
    cut = crop_path(_boxes(x, cuts=(100,)), FRAME, CROP, FPS)
    steps = np.abs(np.diff(cut[:, 0]))
    assert steps[99] > 1000 and steps.sum() == steps[99]
    assert _inside(_boxes(x), cut).all()


def test_crop_path_pans_to_another_speaker() -> None:
    x = np.where(np.arange(200) < 100, 400.0, 1500.0)
    boxes = _boxes(x, switches=(100,))
    path = crop_path(boxes, FRAME, CROP, FPS)
    speed = np.diff(path[:, 0])
    assert speed.min() >= 0 and speed.max() < 90, "1100 pixels in .8 seconds, without a jump"
    assert np.abs(np.diff(speed)).max() < 15, "without jerks"
    assert _inside(boxes, path)[[*range(90), *range(110, 200)]].all()


def test_crop_path_short_turns_are_centred() -> None:
    x = np.where(np.arange(250) // 25 % 2, 1500.0, 400.0)
    path = crop_path(_boxes(x, switches=tuple(range(25, 250, 25))), FRAME, CROP, FPS)
    assert np.abs(path[12::25, 0] + CROP[0] / 2 - x[12::25]).max() < 30


@pytest.mark.parametrize("num", [1, 2, 5])
def test_crop_path_short_shot_has_a_corner_per_frame(num: int) -> None:
    assert crop_path(_boxes(np.full(num, 960.0)), FRAME, CROP, FPS).shape == (num, 2)


def test_crop_path_large_face_is_centred() -> None:
    low = np.tile(np.array([[600, 0]], np.float32), (50, 1))
    boxes = FaceBoxes(low, low + np.array([900, 1000], np.float32), np.zeros(50, bool), np.zeros(50, bool))
    path = crop_path(boxes, FRAME, CROP, FPS)
    assert np.abs(path[:, 0] + CROP[0] / 2 - 1050).max() <= 2
