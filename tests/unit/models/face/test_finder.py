from __future__ import annotations

import pytest

from media.yuv_frame import YuvFrame
from models.face.choice import FaceChoice
from models.face.finder import FaceFinder, tiles
from tests.unit.models.conftest import COLOUR, Scene


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
