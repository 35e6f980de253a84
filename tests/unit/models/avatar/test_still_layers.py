"""A portrait whose background stands still while the head moves."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from media.matte.foreground import Foreground
from media.yuv_frame import YuvFrame
from models.avatar.avatar import Avatar
from models.avatar.folder import INFO_FILE, LAYERS_FILE
from models.avatar.moving_still import MovingMatte, MovingStill
from models.avatar.still_layers import StillLayers
from models.matting.generator import MatteGenerator
from models.matting.person import PersonSegmenter
from tests.unit.models.avatar.frames import frame_of
from tests.unit.models.still import OneFrame, Still

_TURNED = [
    int(frame_of(pitch=4.0, yaw=-4.5, roll=3.0, breath=0.014)[0]),
    int(frame_of(pitch=-4.0, yaw=4.5, roll=-3.0)[0]),
]


@pytest.fixture(scope="module")
def alpha(still: Still) -> NDArray[np.uint8]:
    """The matte of the portrait."""
    found = MatteGenerator(PersonSegmenter(num_threads=1)).cut_out(still.planes, still.info.colour, still.track)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def picture(still: Still, alpha: NDArray[np.uint8]) -> YuvFrame:
    """The portrait in front of stripes."""
    rows, columns = np.indices(still.planes.y.shape)
    stripes = still.planes._replace(y=np.where((rows + columns) % 16 < 8, 60, 180).astype(np.uint8))
    return Foreground(still.planes, alpha).over(stripes)


@pytest.fixture(scope="module")
def layers(still: Still, picture: YuvFrame, alpha: NDArray[np.uint8]) -> StillLayers:
    """Person and stripes."""
    return StillLayers.of(picture, alpha, float(still.track.scale[0]))


def test_still_layers_turned_head_keeps_the_background(still: Still, picture: YuvFrame, layers: StillLayers) -> None:
    matte = OneFrame(still.planes._replace(y=layers.alpha))
    with (
        closing(MovingStill(OneFrame(picture), still.track, layers)) as frames,
        closing(MovingMatte(matte, still.track, layers)) as mattes,
    ):
        pairs = list(zip(frames.read(_TURNED), mattes.read(_TURNED), strict=True))
    for frame, moved in pairs:
        shows_person = cv2.dilate(np.maximum(layers.alpha, moved.y), np.ones((5, 5))) > 0
        assert (~shows_person).mean() > 0.3
        np.testing.assert_array_equal(frame.y[~shows_person], picture.y[~shows_person])
        assert np.abs(moved.y.astype(int) - layers.alpha).max() > 200, "the head moves"


def test_still_layers_head_moves_as_without_layers(still: Still, picture: YuvFrame, layers: StillLayers) -> None:
    eyes_and_mouth = still.track.points[0, [33, 263, 61, 291], :2]
    (x0, y0), (x1, y1) = eyes_and_mouth.min(0).astype(int), eyes_and_mouth.max(0).astype(int)
    bent, layered = (
        next(MovingStill(OneFrame(picture), still.track, separated).read(_TURNED)) for separated in (None, layers)
    )
    np.testing.assert_array_equal(layered.y[y0:y1, x0:x1], bent.y[y0:y1, x0:x1])


def test_still_layers_at_rest_equal_the_still(still: Still, picture: YuvFrame, layers: StillLayers) -> None:
    (frame,) = MovingStill(OneFrame(picture), still.track, layers).read([0])
    for plane, own in zip(frame, picture, strict=True):
        np.testing.assert_array_equal(plane, own)


def test_still_layers_background_is_filled_from_around(layers: StillLayers, picture: YuvFrame) -> None:
    hidden = cv2.erode((layers.alpha == 255).astype(np.uint8), np.ones((9, 9))) > 0
    assert (picture.y[hidden] < 50).mean() > 0.2, "hair and suit are darker than all stripes"
    assert (layers.background.y[hidden] < 50).mean() < 0.02


def test_avatar_load_has_the_built_layers(still: Still, alpha: NDArray[np.uint8], tmp_path: Path) -> None:
    with still.reader() as reader:
        built = Avatar.build(tmp_path, still.info, still.raw, reader, lambda *_: alpha)
    loaded = Avatar.load(tmp_path)
    assert built.layers is not None and loaded.layers is not None
    np.testing.assert_array_equal(built.layers.alpha, loaded.layers.alpha)
    for plane, other in zip(built.layers.background, loaded.layers.background, strict=True):
        np.testing.assert_array_equal(plane, other)
    first, second = (next(avatar.frames(still.reader()).read(_TURNED)) for avatar in (built, loaded))
    np.testing.assert_array_equal(first.y, second.y)


def test_avatar_with_an_uncertain_matte_has_no_layers(still: Still, tmp_path: Path) -> None:
    generator = MatteGenerator(lambda frame, *_: np.full(frame.y.shape, 0.5, np.float32))  # type: ignore[arg-type]
    assert generator.cut_out(still.planes, still.info.colour, still.track) is None
    (tmp_path / LAYERS_FILE).write_bytes(b"of an earlier build")
    with still.reader() as reader:
        Avatar.build(tmp_path, still.info, still.raw, reader, lambda *_: None)
    assert Avatar.load(tmp_path).layers is None
    (tmp_path / INFO_FILE).rename(tmp_path / "presenter.json")  # its name in an older version
    assert Avatar.load(tmp_path).layers is None
    assert LAYERS_FILE not in json.loads((tmp_path / "presenter.json").read_text())["files"]
