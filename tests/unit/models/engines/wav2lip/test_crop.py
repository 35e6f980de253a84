from __future__ import annotations

import numpy as np

from models.engines.paste.landmarks68 import FACE_OVAL
from models.engines.wav2lip.crop import track_boxes
from tests.unit.models.engines.wav2lip.avatars import HEIGHT, NUM_FRAMES, WIDTH, talking_track

MOUTH = [61, 291, 0, 17, 13, 14]


TRACK = talking_track()
BOXES = track_boxes(TRACK, WIDTH, HEIGHT)
PLACED = BOXES.boxes + np.tile(BOXES.origins, 2)


def test_track_boxes_follow_head_not_chin() -> None:
    assert np.ptp(TRACK.points[:, 152, 1]) > 8  # the chin goes up and down
    assert np.ptp(PLACED[:, 1]) < 1 and np.ptp(PLACED[:, 3]) < 1
    steps = np.diff(PLACED[:, 0])
    assert np.abs(steps - 0.4).max() < 0.2  # pixels: the head's own speed


def test_track_boxes_hold_face_like_detector() -> None:
    oval = TRACK.points[:, list(FACE_OVAL), :2].mean(0)
    middle = PLACED.mean(0)
    height = middle[3] - middle[1]
    assert np.abs(middle[:3] - [*oval.min(0), oval[:, 0].max()]).max() < 1
    assert 0.02 * height < middle[3] - oval[:, 1].max() < 0.08 * height
    mouth = (TRACK.points[:, MOUTH, 1].mean() - middle[1]) / height
    assert 0.6 < mouth < 0.8  # in the half that is generated


def test_track_boxes_outline_holds_open_jaw() -> None:
    lowest = (BOXES.outline + BOXES.origins[:, None])[..., 1].max(1)
    assert (lowest > TRACK.points[:, 152, 1]).all()
    assert np.ptp(lowest) > 2  # it follows an open mouth
    assert (lowest > TRACK.points[:, 152, 1].mean()).all()  # and gives a closed one the room to open


def test_track_boxes_end_at_frame_edge() -> None:
    boxes = track_boxes(talking_track(middle=(20, 60)), WIDTH, HEIGHT)
    placed = boxes.boxes + np.tile(boxes.origins, 2)
    assert (placed[:, 0] == 0).all()
    assert (placed[:, 2] > 40).all()
    outside = track_boxes(talking_track(middle=(-400, 60)), WIDTH, HEIGHT)
    assert (outside.boxes[:, 2] > outside.boxes[:, 0]).all()


def test_track_boxes_frame_without_face_has_opacity_0() -> None:
    boxes = track_boxes(talking_track(absent=(8, 9, 10)), WIDTH, HEIGHT)
    assert (boxes.opacity[8:11] == 0).all()
    assert 0 < boxes.opacity[7] < 1
    assert boxes.opacity[0] == 1
    assert boxes.num_frames == NUM_FRAMES
