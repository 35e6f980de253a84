from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from media.output.dynamic_range import from_sdr_rgb
from media.probe import ColourTags
from media.yuv_frame import YuvFrame, from_rgb
from models.face.choice import FaceChoice
from models.face.detection import FaceBox, FaceDetector, Window
from models.face.finder import FaceFinder, tiles
from tests.unit.models.conftest import COLOUR, Scene


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector(num_threads=1, device="cpu")


def test_detector_box_follows_the_face(detector: FaceDetector, scene: Scene) -> None:
    (one,) = detector(scene.frame(640, 480, (240.0, 250.0, 0.7)), COLOUR)
    (two,) = detector(scene.frame(640, 480, (330.0, 220.0, 0.7)), COLOUR)
    assert (two.center_x - one.center_x, two.center_y - one.center_y) == pytest.approx((90, -30), abs=0.04 * one.size)
    assert one.score > 0.7
    assert abs(one.angle) < 0.2


def test_detector_window_gives_frame_coordinates(detector: FaceDetector, scene: Scene) -> None:
    frame = scene.frame(960, 720, (700.0, 450.0, 0.5))
    (whole,) = detector(frame, COLOUR)
    (part,) = detector(frame, COLOUR, Window(480, 240, 480, 480))
    assert (part.center_x, part.center_y) == pytest.approx((whole.center_x, whole.center_y), abs=0.1 * whole.size)
    assert detector(frame, COLOUR, Window(0, 0, 300, 300)) == []


def test_detector_pq_picture_scores_as_sdr(detector: FaceDetector, portrait: NDArray[np.uint8]) -> None:
    pq = ColourTags(9, False, 9, 16)
    (expected,) = detector(from_rgb(portrait, COLOUR), COLOUR)
    (found,) = detector(from_sdr_rgb(portrait, pq), pq)
    assert found.score == pytest.approx(expected.score, abs=0.025)
    assert (found.center_x, found.center_y) == pytest.approx(
        (expected.center_x, expected.center_y), abs=0.02 * expected.size
    )


def test_detector_noise_has_no_face(detector: FaceDetector) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    assert detector(from_rgb(noise, COLOUR), COLOUR) == []


def test_face_box_overlap_and_contains() -> None:
    box = FaceBox(10.0, 10.0, 10.0, 10.0, 0.0, 1.0)
    assert box.overlap(5, 5, 15, 15) == pytest.approx(1.0)
    assert box.overlap(10, 5, 20, 15) == pytest.approx(1 / 3)
    assert box.overlap(16, 5, 20, 15) == 0.0
    assert box.contains(14.9, 5.1)
    assert not box.contains(15.1, 10.0)


def test_find_small_face_is_found_on_tiles(finder: FaceFinder, scene: Scene) -> None:
    frame = scene.frame(1000, 700, (760.0, 480.0, 0.28))  # about six percent of the longer side
    face, seen = finder.find(frame, COLOUR, FaceChoice())
    assert face is not None
    assert len(seen) == 1
    assert face.box.contains(760, 480)
    assert 0.04 < face.box.size / 1000 < 0.08


def test_find_all_returns_each_face_once_largest_first(finder: FaceFinder, scene: Scene) -> None:
    frame = scene.frame(1000, 500, (220.0, 250.0, 0.6), (820.0, 250.0, 0.3))
    faces = finder.find_all(frame, COLOUR)
    assert [face.box.contains(x, 250) for face, x in zip(faces, (220, 820), strict=True)] == [True, True]
    right, _ = finder.find(frame, COLOUR, FaceChoice.parse("point:820,245"))
    assert right is not None
    assert right.box.contains(820, 250)


def test_find_doubtful_face_is_not_chosen(finder: FaceFinder, scene: Scene) -> None:
    upright = scene.frame(360, 288, (180.0, 144.0, 0.5))
    upside_down = YuvFrame(*(plane[::-1, ::-1].copy() for plane in upright))
    doubtful = finder.find_all(upside_down, COLOUR)
    assert [face.box.contains(180, 144) for face in doubtful] == [True]
    assert finder.find(upside_down, COLOUR, FaceChoice()) == (None, [])
    assert finder.find(upside_down, COLOUR, FaceChoice.parse("point:180,144")) == (None, [])
    assert finder.find(upright, COLOUR, FaceChoice())[0] is not None


def test_find_grey_frame_has_no_face(finder: FaceFinder, scene: Scene) -> None:
    assert finder.find(scene.frame(400, 300), COLOUR, FaceChoice()) == (None, [])


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_tiles_cover_the_frame(scene: Scene, level: int) -> None:
    frame = scene.frame(640, 362)
    windows = list(tiles(frame, level))
    assert len(windows) == (2 * level - 1) ** 2
    assert min(w.x for w in windows) == min(w.y for w in windows) == 0
    assert max(w.x + w.width for w in windows) >= 638
    assert max(w.y + w.height for w in windows) >= 360
    assert all(value % 2 == 0 for window in windows for value in window)
