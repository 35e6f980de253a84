from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from errors import CancelledJobError, FaceNotFoundError
from models.engines.dinet.landmarks import FaceDetector, FaceLandmarks98, find_points, points_68
from models.engines.paste.landmarks68 import ibug_points
from models.engines.protocol import ComputeResources
from tests.random_weights.dinet_exports import export_detector, export_landmarks
from tests.unit.models.engines.dinet.scenes import make_talker
from tests.unit.models.engines.paste.face_scene import ABSENT, COLOUR, SIDE, Frames

POINTS_98 = np.stack([np.arange(98) / 200, 0.2 + np.arange(98) / 300], 1)


def test_face_detector_returns_best_boxes_in_frame_pixels(tmp_path: Path) -> None:
    boxes = [(64, 80, 192, 240, 0.9), (70, 84, 200, 236, 0.8), (320, 100, 400, 220, 0.7), (500, 500, 540, 560, 0.4)]
    detector = FaceDetector(export_detector(tmp_path / "scrfd.onnx", boxes), ComputeResources())
    found = detector(np.zeros((360, 1280, 3), np.uint8))  # half its size in the network
    np.testing.assert_allclose(found, [(128, 160, 384, 480, 0.9), (640, 200, 800, 440, 0.7)], atol=1e-3)
    assert detector(np.zeros((1280, 360, 3), np.uint8))[0].tolist() == pytest.approx([128, 160, 384, 480, 0.9])
    nothing = FaceDetector(export_detector(tmp_path / "blind.onnx", []), ComputeResources())
    assert nothing(np.zeros((100, 100, 3), np.uint8)).shape == (0, 5)


def test_face_landmarks_98_read_widened_box(tmp_path: Path) -> None:
    landmarks = FaceLandmarks98(export_landmarks(tmp_path / "pfpld.onnx", POINTS_98), ComputeResources())
    rgb = np.zeros((300, 400, 3), np.uint8)
    found = landmarks(rgb, np.array([100, 50, 200, 150]))  # the crop is 90..210, 50..160
    np.testing.assert_allclose(found, points_68(POINTS_98) * [120, 110] + [90, 50], atol=1e-3)
    rgb[..., 2] = 255  # blue, which it is given first
    np.testing.assert_allclose(landmarks(rgb, np.array([100, 50, 200, 150])) - found, [[120, 0]] * 68, atol=1e-3)
    with pytest.raises(FaceNotFoundError, match="400 x 300"):
        landmarks(rgb, np.array([500, 50, 600, 150]))


def test_points_68_maps_wflw_to_ibug() -> None:
    points = points_68(np.stack([np.arange(98), np.arange(98)], 1))[:, 0]
    assert points[:17].tolist() == list(range(0, 33, 2))
    assert points[17:27].tolist() == [33, 34, 35, 36, 37, 42, 43, 44, 45, 46]
    assert points[27:36].tolist() == list(range(51, 60))
    assert points[36:48].tolist() == [60, 61, 63, 64, 65, 63, 68, 69, 71, 72, 73, 71]
    assert points[48:].tolist() == list(range(76, 96))


def test_find_points_uses_added_networks(tmp_path: Path) -> None:
    track = make_talker(tmp_path).track
    own = find_points(track, Frames(), COLOUR, None, None, lambda: False)
    np.testing.assert_array_equal(own, ibug_points(track.points))
    landmarks = FaceLandmarks98(export_landmarks(tmp_path / "pfpld.onnx", POINTS_98), ComputeResources())
    by_track = find_points(track, Frames(), COLOUR, None, landmarks, lambda: False)
    np.testing.assert_allclose(by_track[ABSENT], own[ABSENT], atol=0.5)
    assert np.abs(by_track[0] - own[0]).max() > 5
    # The detector's box is our face moved by 4 pixels in the frame; another face far off is somebody else.
    low, high = track.points[..., :2].min((0, 1)), track.points[..., :2].max((0, 1))
    scale = 640 / SIDE
    mine = (*((low + 4) * scale), *((high + 4) * scale), 0.6)
    detector = FaceDetector(export_detector(tmp_path / "scrfd.onnx", [mine, (0, 0, 40, 40, 0.9)]), ComputeResources())
    by_both = find_points(track, Frames(), COLOUR, detector, landmarks, lambda: False)
    moved = by_both[track.visible].mean((0, 1)) - by_track[track.visible].mean((0, 1))
    assert (moved > 2).all()
    assert (moved < 6).all()
    with pytest.raises(CancelledJobError):
        find_points(track, Frames(), COLOUR, None, landmarks, lambda: True)


def test_find_points_still_detects_each_frame_once(tmp_path: Path) -> None:
    track = make_talker(tmp_path).track
    num = track.num_frames
    twice: dict[str, Any] = {
        field.name: np.concatenate([value, value])
        for field in fields(track)
        if field.name != "rest" and isinstance(value := getattr(track, field.name), np.ndarray)
    }
    twice["points"][num:] += np.float32(3)
    landmarks = FaceLandmarks98(export_landmarks(tmp_path / "pfpld.onnx", POINTS_98), ComputeResources())
    once = find_points(track, Frames(), COLOUR, None, landmarks, lambda: False)
    both = find_points(replace(track, **twice), Frames(), COLOUR, None, landmarks, lambda: False, num)
    np.testing.assert_array_equal(both[:num], once)
    np.testing.assert_allclose(both[num:], once + 3, atol=1e-3)
