"""A broad smile gives up a part of itself; other faces keep theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.avatar.avatar import Avatar
from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.painting.fields import CONTROL_IDS
from models.engines.warp.plan import plan_block
from models.geometry.head_frame import mean_face
from models.mouth.lip_model import LipModel
from models.mouth.shape import CHANNELS
from models.mouth.smile import smile_release
from models.speech.speech_to_mouth import MouthBlock
from tests.unit.models.still import make_still

_WIDTH, _CORNER_Y = CHANNELS.index("width"), CHANNELS.index("corner_y")
_CORNERS = (61, 291)


def _face(width: float, corner_y: float) -> np.ndarray:
    shape = np.zeros((1, 8), np.float32)
    shape[0, [_WIDTH, _CORNER_Y]] = width, corner_y
    return np.asarray(LipModel.load().deform(mean_face(), shape)[0])


def test_smile_release_broad_smile_is_reduced() -> None:
    (release,) = smile_release(_face(0.2, 0.15), np.zeros((1, 8), np.float32))
    assert -0.06 < release[_WIDTH] < -0.02
    assert -0.05 < release[_CORNER_Y] < -0.015
    others = np.delete(release, [_WIDTH, _CORNER_Y])
    assert (others == 0).all()


@pytest.mark.parametrize(("width", "corner_y"), [(0, 0), (0.04, 0.02), (0.2, 0), (0, 0.15), (-0.2, -0.15)])
def test_smile_release_other_face_is_zero(width: float, corner_y: float) -> None:
    shape = np.zeros((3, 8), np.float32)
    shape[:, _WIDTH] = -0.06, 0, 0.06
    assert (smile_release(_face(width, corner_y), shape) == 0).all()


def test_smile_release_is_larger_for_rounded_lips() -> None:
    shape = np.zeros((5, 8), np.float32)
    shape[:, _WIDTH] = 0, -0.01, -0.02, -0.045, -0.2
    release = smile_release(_face(0.2, 0.15), shape)
    width = release[:, _WIDTH]
    assert width[0] > width[1] > width[2] > width[3] == width[4]
    assert width[4] > -0.7 * 0.15, "the folds of the cheeks stay"
    assert np.ptp(release[:, _CORNER_Y]) == 0


@pytest.mark.parametrize(("width", "share"), [(0.2, 0.0), (0.125, 0.5)])
def test_smile_release_limits_spreading(width: float, share: float) -> None:
    shape = np.zeros((2, 8), np.float32)
    shape[:, _WIDTH] = 0, 0.06
    spread = (shape + smile_release(_face(width, 0.15), shape))[:, _WIDTH]
    assert spread[1] - spread[0] == pytest.approx(0.06 * share, abs=1e-3)


def test_plan_block_smiling_still_has_a_reduced_smile(sample_portrait: Path, tmp_path: Path) -> None:
    still = make_still(sample_portrait)
    with still.reader() as reader:
        avatar = Avatar.build(tmp_path, still.info, still.raw, reader)
        warp_avatar = WarpAvatar.analyse(avatar, tmp_path / "warp", avatar.frames(reader), 10)
    mouth = MouthBlock(np.zeros((4, 8), np.float32), np.ones(4, np.float32))
    plan, _ = plan_block(warp_avatar, mouth, np.arange(4, dtype=np.int32), 0, None)
    left, right = (list(CONTROL_IDS).index(corner) for corner in _CORNERS)
    width = (plan.target_head[:, right] - plan.target_head[:, left])[:, 0]
    rest = warp_avatar.track.rest[_CORNERS[1], 0] - warp_avatar.track.rest[_CORNERS[0], 0]
    assert (width < rest - 0.03).all()
    assert (plan.target_head[:, [left, right], 1] < warp_avatar.track.rest[list(_CORNERS), 1] - 0.02).all()
