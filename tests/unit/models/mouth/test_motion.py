"""A broad smile gives up a part of itself; other faces keep theirs."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from models.avatar.avatar import Avatar
from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.painting.fields import CONTROL_IDS
from models.engines.warp.plan import plan_block
from models.geometry.head_frame import INNER_LOWER, INNER_UPPER, OUTER_LOWER, OUTER_UPPER, mean_face
from models.mouth.lip_model import LipModel
from models.mouth.motion import RunningStats, lip_jitter, smile_release
from models.mouth.shape import CHANNELS, DEFAULT_SCALE
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


def test_plan_block_reduces_smile_of_still_and_moves_corners(sample_portrait: Path, tmp_path: Path) -> None:
    still = make_still(sample_portrait)
    with still.reader() as reader:
        avatar = Avatar.build(tmp_path, still.info, still.raw, reader)
        warp_avatar = WarpAvatar.analyse(avatar, tmp_path / "warp", avatar.frames(reader), 10)
    columns, rest = [list(CONTROL_IDS).index(corner) for corner in _CORNERS], warp_avatar.track.rest[list(_CORNERS)]

    def corners(shape: np.ndarray, smile: np.ndarray | None = None) -> np.ndarray:
        spoken = MouthBlock(np.tile(shape, (3, 1)).astype(np.float32), np.ones(3, np.float32), smile=smile)
        return plan_block(warp_avatar, spoken, np.zeros(3, np.int32), 0, None)[0].target_head[:, columns]

    resting = corners(np.zeros(8))
    assert (np.diff(resting[..., 0]) < np.diff(rest[:, 0]) - 0.03).all()
    assert (resting[..., 1] < rest[:, 1] - 0.02).all()
    smiling = corners(0.5 * DEFAULT_SCALE, np.array([-1.0, 0.0, 1.0]))
    assert (np.diff(smiling[..., 1], axis=0) > 0.03).all(), "down, as they are, up"
    assert np.ptp(np.diff(smiling[..., 0])) < 0.005, "this smile has no room left to spread"


FPS = Fraction(25)


def test_running_stats_of_parts_add_up() -> None:
    values = np.random.default_rng(1).normal(3, 2, 100)
    whole = RunningStats.of(values[:30]) + RunningStats.of(values[30:])
    assert whole.num == 100
    assert [whole.mean, whole.std] == pytest.approx([values.mean(), values.std()])
    assert whole.rms == pytest.approx(np.sqrt((values**2).mean()))
    nothing = RunningStats()
    assert (nothing.mean, nothing.std, nothing.rms) == (None, None, None)


def test_lip_jitter_is_that_of_the_lip_points() -> None:
    # Open lips, so that the model's guard against crossing ones does not step in.
    shape = np.random.default_rng(2).normal(0, 0.1, (40, 8)).astype(np.float32) * DEFAULT_SCALE
    shape[:, 0] += 0.2
    lips = sorted({*OUTER_UPPER, *OUTER_LOWER, *INNER_UPPER, *INNER_LOWER})
    points = LipModel.load().deform(mean_face().astype(np.float32), shape)[:, lips].astype(np.float64)
    expected = np.sqrt((np.diff(points, 2, axis=0) ** 2).sum(2).mean())
    assert lip_jitter(shape, np.ones(40, np.bool_), FPS).rms == pytest.approx(expected, rel=1e-3)


def test_lip_jitter_does_not_depend_on_the_frame_rate() -> None:
    def swing(fps: int) -> float | None:
        shape = np.zeros((4 * fps, 8), np.float32)
        shape[:, 0] = 0.1 * np.sin(np.arange(4 * fps) / fps * 2 * np.pi)
        return lip_jitter(shape, np.ones(len(shape), np.bool_), Fraction(fps)).rms

    assert swing(50) == pytest.approx(swing(25), rel=0.02)


def test_lip_jitter_ignores_gaps_and_cuts() -> None:
    shape = np.zeros((20, 8), np.float32)
    shape[10:, 0] = 0.2
    everywhere, shot = np.ones(20, np.bool_), (np.arange(20) >= 10).astype(np.int32)
    assert lip_jitter(shape, everywhere, FPS).rms
    cut = lip_jitter(shape, everywhere, FPS, shot)
    assert (cut.num, cut.rms) == (16, 0.0)
    present = np.arange(20) != 10
    assert lip_jitter(shape, present, FPS).num == 15
    assert lip_jitter(shape[:2], everywhere[:2], FPS) == RunningStats()
