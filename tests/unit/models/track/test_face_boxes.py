from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.track.face_boxes import face_boxes
from models.track.face_track import finish_track
from tests.unit.models.track.test_face_track import talk


def test_face_boxes_short_turns_count_only_after_a_cut() -> None:
    points, _ = talk(100)
    left = finish_track(points, np.ones(100, bool))
    left = replace(left, shot=(np.arange(100) >= 90).astype(np.int32))
    right = replace(left, points=left.points + np.float32(1000))
    speaker = np.zeros(100, np.int8)
    speaker[[*range(10, 15), *range(30, 60), *range(85, 95)]] = 1
    boxes = face_boxes([left, right], speaker, np.arange(100, dtype=np.int32), is_still=False, min_frames=20)
    shows_right = boxes.low[:, 0] > 900
    assert np.flatnonzero(shows_right).tolist() == [*range(30, 60), *range(90, 100)]
    assert np.flatnonzero(boxes.is_cut).tolist() == [90]
    assert np.flatnonzero(boxes.is_new_face).tolist() == [30, 60, 90]
