from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from media.output.dynamic_range import from_sdr_rgb
from media.probe import ColourTags
from media.yuv_frame import from_rgb
from models.face.detection import FaceBox, FaceDetector, Window
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
