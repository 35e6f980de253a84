from fractions import Fraction

import numpy as np
import pytest

from lipwright.media.kept_squares import SquareReader
from models.avatar.avatar import Avatar
from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.painting.fields import CONTROL_IDS
from models.engines.warp.plan import plan_block
from models.geometry.head_frame import INNER_LOWER, INNER_UPPER, OUTER_LOWER, OUTER_UPPER, mean_face
from models.mouth.lip_model import LipModel
from models.mouth.motion import RunningStats, lip_jitter, smile_release
from models.mouth.shape import CHANNELS, DEFAULT_SCALE
from models.speech.speech_to_mouth import MouthBlock
from tests.unit.models.still import Still

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
    assert (np.delete(release, [_WIDTH, _CORNER_Y]) == 0).all()


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


@pytest.fixture(scope="module")
def warp_avatar(still: Still, tmp_path_factory: pytest.TempPathFactory) -> WarpAvatar:
    folder = tmp_path_factory.mktemp("avatar")
    with still.reader() as reader:
        avatar = Avatar.build(folder, still.info, still.raw, reader)
        return WarpAvatar.analyse(avatar, folder / "warp", SquareReader(avatar.frames(reader)), 10)


def test_plan_block_smiling_still_has_a_reduced_smile(warp_avatar: WarpAvatar) -> None:
    mouth = MouthBlock(np.zeros((4, 8), np.float32), np.ones(4, np.float32))
    plan, _ = plan_block(warp_avatar, mouth, np.arange(4, dtype=np.int32), 0, None)
    left, right = (list(CONTROL_IDS).index(corner) for corner in _CORNERS)
    width = (plan.target_head[:, right] - plan.target_head[:, left])[:, 0]
    rest = warp_avatar.track.rest[_CORNERS[1], 0] - warp_avatar.track.rest[_CORNERS[0], 0]
    assert (width < rest - 0.03).all()
    assert (plan.target_head[:, [left, right], 1] < warp_avatar.track.rest[list(_CORNERS), 1] - 0.02).all()


def test_plan_block_smile_moves_the_corners_in_speech(warp_avatar: WarpAvatar) -> None:
    smile = np.array([-1.0, 0.0, 1.0])
    spoken = MouthBlock(np.tile(0.5 * DEFAULT_SCALE, (3, 1)), np.ones(3, np.float32), smile=smile)
    plan, _ = plan_block(warp_avatar, spoken, np.zeros(3, np.int32), 0, None)
    corners = plan.target_head[:, [list(CONTROL_IDS).index(corner) for corner in _CORNERS]]
    assert (np.diff(corners[..., 1], axis=0) > 0.03).all(), "down, as they are, up"
    assert np.ptp(corners[:, 1, 0] - corners[:, 0, 0]) < 0.005, "this smile has no room left to spread"


FPS = Fraction(25)


def test_running_stats_of_parts_add_up() -> None:
    values = np.random.default_rng(1).normal(3, 2, 100)
    whole = RunningStats.of(values[:30]) + RunningStats.of(values[30:])
    assert whole.num == 100
    assert [whole.mean, whole.std] == pytest.approx([values.mean(), values.std()])
    assert whole.rms == pytest.approx(np.sqrt((values**2).mean()))
    assert (RunningStats().mean, RunningStats().std, RunningStats().rms) == (None, None, None)


def test_lip_jitter_is_that_of_the_lip_points() -> None:
    # Open lips, so that the model's guard against crossing ones does not step in.
    shape = np.random.default_rng(2).normal(0, 0.1, (40, 8)).astype(np.float32) * DEFAULT_SCALE
    shape[:, 0] += 0.2
    lips = sorted({*OUTER_UPPER, *OUTER_LOWER, *INNER_UPPER, *INNER_LOWER})
    points = LipModel.load().deform(mean_face().astype(np.float32), shape)[:, lips].astype(np.float64)
    expected = np.sqrt((np.diff(points, 2, axis=0) ** 2).sum(2).mean())
    assert lip_jitter(shape, np.ones(40, np.bool_), FPS).rms == pytest.approx(expected, rel=1e-3)


def test_lip_jitter_ignores_gaps_and_cuts() -> None:
    shape = np.zeros((20, 8), np.float32)
    shape[10:, 0] = 0.2
    everywhere, shot = np.ones(20, np.bool_), (np.arange(20) >= 10).astype(np.int32)
    assert lip_jitter(shape, everywhere, FPS).rms
    cut = lip_jitter(shape, everywhere, FPS, shot)
    assert (cut.num, cut.rms) == (16, 0.0)
    assert lip_jitter(shape, np.arange(20) != 10, FPS).num == 15
    assert lip_jitter(shape[:2], everywhere[:2], FPS) == RunningStats()
