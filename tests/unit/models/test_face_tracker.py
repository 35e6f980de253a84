from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest

from errors import FaceNotFoundError
from media.planes import Planes
from media.probe import ColourTags
from models.face_choice import FaceChoice
from models.face_finder import box_of_points
from models.face_points import EYE_LEFT, EYE_RIGHT
from models.face_tracker import FaceTracker, RawLandmarks

if TYPE_CHECKING:
    from tests.unit.models.conftest import Scene

LARGEST = FaceChoice()


@pytest.fixture(scope="module")
def tracker() -> FaceTracker:
    return FaceTracker(num_threads=1, device="cpu")


def moving(scene: Scene, num_frames: int) -> list[Planes]:
    """The portrait, three pixels to the right with each frame."""
    return [scene.frame(480, 360, (200.0 + 3 * i, 180.0, 0.5)) for i in range(num_frames)]


def test_follows_a_moving_face(tracker: FaceTracker, scene: Scene, colour: ColourTags) -> None:
    raw, _ = tracker.track_chunk(moving(scene, 12), colour, LARGEST, None)
    assert raw.points.shape == (12, 468, 3)
    assert raw.present.all()
    eyes = np.linalg.norm(raw.points[0, EYE_LEFT] - raw.points[0, EYE_RIGHT])
    path = raw.points[..., :2].mean(1)
    expected = path[0] + np.arange(12)[:, None] * [3.0, 0.0]
    assert np.abs(path - expected).max() / eyes < 0.025


def test_chunks_give_the_same_as_one_run(tracker: FaceTracker, scene: Scene, colour: ColourTags) -> None:
    frames = moving(scene, 9)
    frames[4:6] = [scene.frame(480, 360)] * 2
    whole, _ = tracker.track_chunk(frames, colour, LARGEST, None)
    chunks, state = [], None
    for start in (0, 2, 5, 8):
        chunk, state = tracker.track_chunk(frames[start : {0: 2, 2: 5, 5: 8, 8: 9}[start]], colour, LARGEST, state)
        state = pickle.loads(pickle.dumps(state))
        chunks.append(chunk)
    joined = RawLandmarks.concatenate(chunks)
    assert np.array_equal(joined.points, whole.points)
    assert np.array_equal(joined.present, whole.present)
    assert len(pickle.dumps(state)) < 10_000


def test_absence_is_told_and_ends(tracker: FaceTracker, scene: Scene, colour: ColourTags) -> None:
    shown, empty = scene.frame(480, 360, (240.0, 180.0, 0.5)), scene.frame(480, 360)
    raw, _ = tracker.track_chunk([shown] * 2 + [empty] * 5 + [shown] * 4, colour, LARGEST, None)
    assert raw.present[:2].all()
    assert not raw.present[2:7].any()
    assert raw.present[-1]
    assert all(np.array_equal(points, raw.points[1]) for points in raw.points[2:7])


def test_a_face_that_comes_late_is_found(tracker: FaceTracker, scene: Scene, colour: ColourTags) -> None:
    shown, empty = scene.frame(480, 360, (240.0, 180.0, 0.5)), scene.frame(480, 360)
    first, state = tracker.track_chunk([empty] * 3, colour, LARGEST, None)
    assert not first.present.any()
    assert not first.points.any()
    later, _ = tracker.track_chunk([shown] * 4, colour, LARGEST, state)
    assert later.present[-1]


def test_never_takes_another_face_for_a_lost_one(tracker: FaceTracker, scene: Scene, colour: ColourTags) -> None:
    left, right = (130.0, 180.0, 0.42), (500.0, 180.0, 0.45)
    both, only_right = scene.frame(640, 360, left, right), scene.frame(640, 360, right)
    choice = FaceChoice.parse("index:1")
    raw, state = tracker.track_chunk([both] * 2 + [only_right] * 45, colour, choice, None)
    assert box_of_points(raw.points[0], 1.0).contains(130, 180)
    assert not raw.present[2:].any()
    again, _ = tracker.track_chunk([both] * 12, colour, choice, state)
    assert again.present[-1]
    assert box_of_points(again.points[-1], 1.0).contains(130, 180)


def test_a_choice_that_is_not_there_is_an_error_that_lists_the_faces(
    tracker: FaceTracker, scene: Scene, colour: ColourTags
) -> None:
    frame = scene.frame(480, 360, (240.0, 180.0, 0.5))
    with pytest.raises(FaceNotFoundError, match=r"'index:3'.*1 face .*pixels at"):
        tracker.track_chunk([frame], colour, FaceChoice.parse("3"), None)
    with pytest.raises(ValueError, match="at least one frame"):
        tracker.track_chunk([], colour, LARGEST, None)
