from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.material import FramesInMemory
from classic_weights.dinet_exports import export_detector, export_landmarks
from dinet_scenes import make_talker
from lipwright.errors import CancelledJobError, FaceNotFoundError
from lipwright_engines_classic.dinet import crop
from lipwright_engines_classic.dinet.engine import HeyGemVariant, OriginalVariant
from lipwright_engines_classic.dinet.landmarks import FaceDetector, FaceLandmarks98, find_points, points_68
from lipwright_engines_classic.dinet.options import DinetOptions
from models.engines.paste.landmarks68 import ibug_points
from models.engines.protocol import ComputeResources
from tests.unit.models.engines.paste.face_scene import ABSENT, COLOUR, SIDE, make_frames

FRAMES = FramesInMemory(make_frames())
HEYGEM, ORIGINAL = HeyGemVariant(DinetOptions()).layout, OriginalVariant.layout


def test_heygem_boxes_are_squares_of_1_5_face_heights() -> None:
    points = np.tile(_face(100, 50, 97, 100), (3, 1, 1))
    boxes = crop.heygem_boxes(points, np.ones(3, bool))
    np.testing.assert_allclose(boxes, np.tile([148.5 - 75, 35, 148.5 + 75, 185], (3, 1)))
    cut = crop.heygem_boxes(points, np.ones(3, bool), fit="crop")
    np.testing.assert_allclose(cut - boxes, np.tile([1, 1, -1, -1], (3, 1)) * 150 * 5 / 266, atol=1e-9)
    wide = crop.heygem_boxes(points / [2, 1], np.ones(3, bool), pixel_aspect=2.0)  # pixels twice as wide as high
    np.testing.assert_allclose(wide * [2, 1, 2, 1], boxes)
    # The jaw drops in frame 1; frame 2 is not a face, and its proportions do not count.
    points = np.stack([_face(100, 50, 97, 95), _face(100, 50, 97, 105), _face(0, 0, 500, 10)])
    boxes = crop.heygem_boxes(points, np.array([True, True, False]))
    np.testing.assert_allclose(boxes[0], boxes[1])
    assert boxes[0, 3] - boxes[0, 1] == pytest.approx(150, abs=0.5)


def test_dinet_boxes_follow_published_radius() -> None:
    points = np.tile(_face(100, 50, 90, 100), (9, 1, 1))
    points[:, 29], points[:, 33] = (145, 100), (146, 110)
    radius = 1.05 * 50 / 2 + 2
    expected = [146 - 1.25 * radius, 100 - radius, 146 + 1.25 * radius, 100 + 2.25 * radius]
    np.testing.assert_allclose(crop.dinet_boxes(points, np.zeros(9, int)), np.tile(expected, (9, 1)))
    points[:, 48], points[:, 54] = (100, 120), (180, 120)  # a mouth wider than the face is high below the bridge
    assert np.ptp(crop.dinet_boxes(points, np.zeros(9, int))[0, ::2]) == pytest.approx(2.5 * (1.05 * 80 / 2 + 2))


def test_crop_layout_masks_published_rectangle() -> None:
    masked = HEYGEM.mask(np.ones((1, 3, 256, 256), np.float32))[0, 0]
    assert (masked == 0).sum() == 166 * 181 == 30_046
    rows, columns = np.nonzero(masked == 0)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (86, 251, 37, 217)
    masked = ORIGINAL.mask(np.ones((1, 3, 416, 320), np.float32))[0, 0]
    rows, columns = np.nonzero(masked == 0)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (128, 383, 32, 287)
    np.testing.assert_allclose(HEYGEM.masked_box(np.array([[0, 0, 256, 256]])), [[37, 86, 218, 252]])
    pictures = np.random.default_rng(0).integers(0, 256, (2, 6, 4, 3), np.uint8)
    np.testing.assert_array_equal(crop.to_levels(crop.to_planes(pictures)), pictures)
    assert crop.corners(np.array([[1, 2, 3, 4]])).tolist() == [[[1, 2], [3, 2], [3, 4], [1, 4]]]


def test_crop_layout_outline_stays_inside_masked_box(tmp_path: Path) -> None:
    track = make_talker(tmp_path).track
    points = ibug_points(track.points)
    for kind in (HeyGemVariant(DinetOptions()), OriginalVariant(DinetOptions())):
        boxes = kind.boxes(points, track)
        outline, masked = kind.layout.outline(boxes, points), kind.layout.masked_box(boxes)
        assert (outline >= masked[:, None, :2] - 1e-3).all()
        assert (outline <= masked[:, None, 2:] + 1e-3).all()
        chin = points[:, 8, 1]
        assert (outline[..., 1].max(1) > chin).all()  # there is room for it to fall
        lips = points[:, 48:60]
        assert (lips > masked[:, None, :2]).all() and (lips < masked[:, None, 2:]).all()


def test_smooth_rows_smooths_within_runs_and_follows_jumps() -> None:
    trembling = np.tile([10.0, 20, 30, 40], (20, 1)) + np.where(np.arange(20) % 2, 0.5, -0.5)[:, None]
    trembling[10:] += 100
    one_run = crop.smooth_rows(trembling, np.zeros(20, int))
    assert np.abs(np.diff(one_run[:6], axis=0)).max() < 0.2
    np.testing.assert_array_equal(one_run[9], trembling[9])  # would be moved too far
    two_runs = crop.smooth_rows(trembling, np.repeat([0, 1], 10))
    assert np.abs(two_runs[10:] - [110, 120, 130, 140]).max() < 0.4
    shown, shot = np.array([1, 1, 0, 1, 1, 1], bool), np.array([0, 0, 0, 0, 0, 1])
    assert crop.runs_of(shown, shot).tolist() == [0, 0, 1, 2, 2, 3]


def test_choose_references_is_stable_with_different_mouths(tmp_path: Path) -> None:
    track = make_talker(tmp_path).track
    chosen = crop.choose_references(track)
    assert chosen.tolist() == crop.choose_references(track).tolist() == sorted(set(chosen.tolist()))
    assert not set(chosen.tolist()) & {ABSENT}
    openings = track.shape[chosen, 0]
    shown = track.shape[track.visible, 0]
    assert np.ptp(openings) > 0.7 * np.ptp(shown)


def _face(left: float, top: float, width: float, height: float) -> NDArray[np.float64]:
    """(68, 2) points that fill a rectangle."""
    made = np.random.default_rng(0).uniform(0.3, 0.6, (68, 2))
    made[0], made[16], made[8], made[19] = (0, 0.4), (1, 0.4), (0.5, 1), (0.3, 0)
    return made * [width, height] + [left, top]


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
    wflw = points_68(np.stack([np.arange(98), np.arange(98)], 1))[:, 0].tolist()
    assert wflw[:27] == [*range(0, 33, 2), 33, 34, 35, 36, 37, 42, 43, 44, 45, 46]
    assert wflw[27:48] == [*range(51, 60), 60, 61, 63, 64, 65, 63, 68, 69, 71, 72, 73, 71]
    assert wflw[48:] == list(range(76, 96))


def test_find_points_uses_added_networks(tmp_path: Path) -> None:
    track = make_talker(tmp_path).track
    own = find_points(track, FRAMES, COLOUR, None, None, lambda: False)
    np.testing.assert_array_equal(own, ibug_points(track.points))
    landmarks = FaceLandmarks98(export_landmarks(tmp_path / "pfpld.onnx", POINTS_98), ComputeResources())
    by_track = find_points(track, FRAMES, COLOUR, None, landmarks, lambda: False)
    np.testing.assert_allclose(by_track[ABSENT], own[ABSENT], atol=0.5)
    assert np.abs(by_track[0] - own[0]).max() > 5
    # The detector's box is our face moved by 4 pixels in the frame; another face far off is somebody else.
    low, high = track.points[..., :2].min((0, 1)), track.points[..., :2].max((0, 1))
    scale = 640 / SIDE
    mine = (*((low + 4) * scale), *((high + 4) * scale), 0.6)
    detector = FaceDetector(export_detector(tmp_path / "scrfd.onnx", [mine, (0, 0, 40, 40, 0.9)]), ComputeResources())
    by_both = find_points(track, FRAMES, COLOUR, detector, landmarks, lambda: False)
    moved = by_both[track.visible].mean((0, 1)) - by_track[track.visible].mean((0, 1))
    assert (moved > 2).all() and (moved < 6).all()
    with pytest.raises(CancelledJobError):
        find_points(track, FRAMES, COLOUR, None, landmarks, lambda: True)


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
    once = find_points(track, FRAMES, COLOUR, None, landmarks, lambda: False)
    both = find_points(replace(track, **twice), FRAMES, COLOUR, None, landmarks, lambda: False, num)
    np.testing.assert_array_equal(both[:num], once)
    np.testing.assert_allclose(both[num:], once + 3, atol=1e-3)
