from __future__ import annotations

import numpy as np

from models.engines.paste.landmarks68 import FACE_OVAL
from models.engines.wav2lip.crop import track_boxes
from models.geometry.head_frame import HeadPose
from models.mouth.lip_model import LipModel
from models.track.face_track import FaceTrack, finish_track
from models.weights import weights_path

WIDTH, HEIGHT, NUM_FRAMES = 320, 240, 24


def talking_track(
    middle: tuple[float, float] = (WIDTH / 2, HEIGHT * 0.4), eyes: float = 60.0, absent: tuple[int, ...] = ()
) -> FaceTrack:
    """N frames of the mean face: its head drifts to the right, its mouth opens wide twice."""
    time = np.arange(NUM_FRAMES)
    shapes = np.zeros((NUM_FRAMES, 8), np.float32)
    shapes[:, :6] = (np.sin(time / 4) ** 2)[:, None] * np.array([0.25, 0.24, -0.05, 0.02, 0.2, 0.2])
    mean = np.load(weights_path("mean_face_468.npy"))
    head = LipModel.load().deform(np.asarray(mean, np.float32), shapes)
    place = np.stack([middle[0] + 0.4 * time, middle[1] + 0 * time, 0 * time], 1)
    rotation = np.repeat(np.diag([1.0, -1.0, -1.0])[None], NUM_FRAMES, 0)
    points = HeadPose(np.full(NUM_FRAMES, eyes), rotation, place).to_image(head)
    return finish_track(points, ~np.isin(time, absent))


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
