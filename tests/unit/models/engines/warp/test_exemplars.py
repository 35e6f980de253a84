"""What is read from an exemplar's picture."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.material import FramesInMemory
from lipwright.media.yuv_frame import YuvFrame
from models.engines.warp.exemplar_path import PathTarget, choose_path
from models.engines.warp.exemplars import USUAL_BITE, ExemplarBank, forbidden_between_shots, measure_bite
from models.geometry.head_frame import INNER_LOWER, INNER_UPPER, MIDDLE_LOWER, MIDDLE_UPPER, NUM_POINTS
from models.mouth.shape import DEFAULT_SCALE
from models.track.face_track import FaceTrack
from tests.unit.models.engines.warp.conftest import exemplar_bank


@pytest.mark.parametrize(
    ("teeth", "row", "expected"), [(90, 38, 0.4), (90, 44, 0.7), (90, 48, 0.9), (90, None, USUAL_BITE), (220, 44, 1.0)]
)
def test_measure_bite_takes_light_line_for_teeth(teeth: int, row: int | None, expected: float) -> None:
    """Lips of 150: between darker teeth the jaws part at the darkest line; bright teeth move together."""
    frame = YuvFrame(np.full((96, 96), 150, np.uint8), *np.full((2, 48, 48), 128, np.uint8))
    frame.y[29:52] = teeth
    if row is not None:
        frame.y[row - 1 : row + 2] = teeth - 60
    points = np.zeros((2, NUM_POINTS, 3), np.float32)
    points[:, list(INNER_UPPER), 1], points[:, list(INNER_LOWER), 1] = 30, 50
    points[:, [*MIDDLE_UPPER], 1], points[:, [*MIDDLE_LOWER], 1] = 25, 55
    points[..., 0] = 48
    track = SimpleNamespace(points=points, shape=np.array([[0.0] * 8, [0.1] + [0.0] * 7]), visible=np.ones(2, np.bool_))
    bite = measure_bite(cast(FaceTrack, track), FramesInMemory([frame, frame]))
    assert bite == pytest.approx(expected, abs=0.06)


def _bank(num: int, gap_at: int | None = None) -> ExemplarBank:
    """A bank whose mouths open and shut smoothly, so that neighbours look alike."""
    rng = np.random.default_rng(1)
    time = np.arange(num)
    waves = np.stack([np.sin(1 + time / period) for period in (3, 4, 5, 6, 7, 8, 9, 10)], 1)
    basis = rng.normal(size=(8, 1024))
    thumbs = waves @ basis
    thumbs -= thumbs.mean(1, keepdims=True)
    thumbs /= np.linalg.norm(thumbs, axis=1, keepdims=True)
    frames = time + (0 if gap_at is None else 1) * (time >= (gap_at or 0)) * 100
    shape = ((1 + waves) * DEFAULT_SCALE).astype(np.float32)
    return exemplar_bank(num, frames=frames.astype(np.int32), shape=shape, thumbs=thumbs.astype(np.float32))


def _wanted(shape: NDArray[np.float32], forbidden: NDArray[np.bool_] | None = None, rate: float = 1.0) -> PathTarget:
    luma = np.full(len(shape), 120, np.float32)
    return PathTarget(shape, np.zeros((len(shape), 3), np.float32), luma, forbidden, rate)


def test_choose_path_finds_source_run() -> None:
    bank = _bank(200)
    path, _ = choose_path(bank, _wanted(bank.shape[50:90]), None)
    assert path.exemplar.tolist() == list(range(50, 90))
    assert (path.fade == -1).all()


def test_choose_path_avoids_forbidden_and_matches_shapes() -> None:
    bank = _bank(200)
    target = bank.shape[50:90]
    forbidden = np.zeros((40, 200), bool)
    forbidden[:, 45:95] = True
    path, _ = choose_path(bank, _wanted(target, forbidden), None)
    assert not forbidden[np.arange(40), path.exemplar].any()
    assert not forbidden[np.flatnonzero(path.fade >= 0), path.fade[path.fade >= 0]].any()
    error = np.abs(bank.shape[path.exemplar, 0] - target[:, 0]).mean()
    shuffled = np.abs(np.roll(bank.shape[:, 0], 77)[50:90] - target[:, 0]).mean()
    assert error < 0.5 * shuffled


def test_choose_path_jump_cross_fades() -> None:
    bank = _bank(200)
    target = np.concatenate([bank.shape[20:50], bank.shape[120:150]])
    path, _ = choose_path(bank, _wanted(target), None)
    jumps = np.flatnonzero(~np.isin(np.diff(path.exemplar), (0, 1)))
    assert len(jumps) >= 1
    assert (path.fade[jumps] >= 0).all()
    assert (path.fade[jumps + 1] >= 0).all()
    assert path.fade_weight.max() < 0.5
    assert (path.fade_weight[path.fade < 0] == 0).all()


def test_choose_path_blocks_continue_state() -> None:
    bank = _bank(200)
    whole, _ = choose_path(bank, _wanted(bank.shape[30:110]), None)
    first, state = choose_path(bank, _wanted(bank.shape[30:70]), None)
    second, _ = choose_path(bank, _wanted(bank.shape[70:110]), state)
    assert np.concatenate([first.exemplar, second.exemplar]).tolist() == whole.exemplar.tolist()


def test_choose_path_does_not_flip_between_teeth_and_dark() -> None:
    """Two runs of the same mouths, one with teeth and one dark; at random half of all exemplars may not be used."""
    half = _bank(100)
    rows, is_dark = np.tile(np.arange(100), 2), np.arange(200) >= 100
    teeth = np.random.default_rng(1).normal(size=half.thumbs.shape[1])
    thumbs = half.thumbs[rows] + np.outer(np.where(is_dark, -1, 1), teeth / np.linalg.norm(teeth))
    bank = exemplar_bank(
        200,
        frames=np.concatenate([half.frames, half.frames + 500]).astype(np.int32),
        shape=half.shape[rows],
        thumbs=(thumbs / np.linalg.norm(thumbs, axis=1, keepdims=True)).astype(np.float32),
    )
    forbidden = np.random.default_rng(0).random((60, 200)) < 0.5
    path, _ = choose_path(bank, _wanted(bank.shape[20:80], forbidden), None)
    assert np.count_nonzero(np.diff(is_dark[path.exemplar])) <= 4


def test_choose_path_gap_between_frames_counts_as_jump() -> None:
    """Rows 29 and 30 are neighbours in the bank; rows 60 to 79 show the same mouths a little less well in one run."""
    for gap_at, chosen in ((None, range(20, 40)), (30, range(60, 80))):
        bank, rows = _bank(60, gap_at=gap_at), [*range(60), *range(20, 40)]
        shape, frames = bank.shape[rows].copy(), np.r_[bank.frames, 500:520].astype(np.int32)
        shape[60:, 2] += 0.004
        both = exemplar_bank(80, frames=frames, shape=shape, thumbs=bank.thumbs[rows])
        assert choose_path(both, _wanted(bank.shape[20:40]), None)[0].exemplar.tolist() == [*chosen]


@pytest.mark.parametrize("num", [1, 2, 5])
def test_choose_path_accepts_small_banks(num: int) -> None:
    bank = _bank(num)
    path, state = choose_path(bank, _wanted(_bank(20).shape), None)
    assert path.exemplar.min() >= 0
    assert path.exemplar.max() < num
    assert state.exemplar == path.exemplar[-1]


@pytest.mark.parametrize(
    ("opening", "nearest", "taken"),
    [(0.04, 1, 2), (0.03, 1, 1), (0.01, 1, 0)],
    ids=["an open one is rather closed than stretched", "not at any price", "lips that shall meet are shut ones"],
)
def test_choose_path_avoids_stretched_or_open_exemplars(opening: float, nearest: int, taken: int) -> None:
    bank = _bank(4)
    bank.shape[:] = 0
    bank.shape[:, 0] = [0.0, 0.018 if opening < 0.02 else 0.024, 0.06, 0.10]
    bank.thumbs[:] = bank.thumbs[0]
    target = np.zeros((1, 8), np.float32)
    target[0, 0] = opening
    assert abs(bank.shape[:, 0] - opening).argmin() == nearest
    path, _ = choose_path(bank, _wanted(target), None)
    assert path.exemplar.tolist() == [taken]


def test_choose_path_prefers_lip_height_to_gap() -> None:
    bank = _bank(40)
    open_in, open_out, lower = 0, 1, 4
    target = np.zeros((3, 8), np.float32)
    target[:, [open_in, open_out, lower]] = 0.045, 0.05, 0.0475
    bank.shape[:] = target[0]
    bank.shape[:20, open_out] -= 0.03
    bank.shape[:20, lower] -= 0.015
    bank.shape[20:, open_in] += 0.006
    path, _ = choose_path(bank, _wanted(target), None)
    assert (path.exemplar >= 20).all()


def test_choose_path_double_rate_fades_equally_long() -> None:
    """A clip at twice the frame rate, and the speech of both; with and without the rate given."""
    plain, twice = _bank(200), _at_rate(_bank(200), 2)
    jumps = np.zeros(2, int)
    for seed in range(4):
        motion = np.repeat(np.random.default_rng(seed).normal(0, 0.7, (20, 8)), 12, 0) * DEFAULT_SCALE
        target = twice.shape[:240] + motion.astype(np.float32)
        for row, rate in enumerate((1.0, 2.0)):
            path, _ = choose_path(twice, _wanted(target, rate=rate), None)
            jumps[row] += (~np.isin(np.diff(path.exemplar), (0, 1))).sum()
    assert jumps[1] < 0.9 * jumps[0]
    faded = []
    for rate, bank in ((1, plain), (2, twice)):
        cut = np.concatenate([bank.shape[start * rate : (start + 30) * rate] for start in (20, 120)])
        path, _ = choose_path(bank, _wanted(cut, rate=float(rate)), None)
        num_jumps = np.count_nonzero(~np.isin(np.diff(path.exemplar), (0, 1)))
        assert num_jumps
        faded.append(np.count_nonzero(path.fade >= 0) / num_jumps)
    assert faded[1] >= 1.8 * faded[0] > 0


def _at_rate(bank: ExemplarBank, rate: int) -> ExemplarBank:
    """The bank of the same film at `rate` times as many frames a second."""

    def between(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        places = np.arange(len(rows) * rate) / rate
        return np.stack([np.interp(places, np.arange(len(rows)), row) for row in rows.T], 1).astype(np.float32)

    thumbs = between(bank.thumbs)
    thumbs /= np.linalg.norm(thumbs, axis=1, keepdims=True)
    return exemplar_bank(len(thumbs), shape=between(bank.shape), thumbs=thumbs)


RNG = np.random.default_rng(2)
SHADING = RNG.normal(0, 1, 1024)


def material() -> tuple[ExemplarBank, FaceTrack]:
    """Four shots of ten frames: two of one scene, one at another scale, one that the bank has nothing of."""
    thumbs = (SHADING + RNG.normal(0, 0.3, (30, 1024))).astype(np.float32)
    thumbs /= np.linalg.norm(thumbs, axis=1, keepdims=True)
    scale = np.where(np.arange(40) // 10 == 2, 160.0, 80.0)
    track = SimpleNamespace(shot=np.repeat(np.arange(4, dtype=np.int32), 10), scale=scale)
    return exemplar_bank(30, thumbs=thumbs), cast(FaceTrack, track)


def groups(bank: ExemplarBank, track: FaceTrack) -> list[list[int]]:
    """Which shots' exemplars each shot may show."""
    forbidden = forbidden_between_shots(bank, track)
    return [sorted({int(track.shot[bank.frames[row]]) for row in np.flatnonzero(~rows)}) for rows in forbidden]


def test_shots_of_equal_scene_and_scale_share_exemplars() -> None:
    assert groups(*material()) == [[0, 1], [0, 1], [2], []]


def test_shots_do_not_share_across_light_pose_or_shading() -> None:
    bank, track = material()
    second = bank.frames // 10 == 1
    changes = {
        "luma": bank.luma + 30 * second,
        "pose": bank.pose + 15 * second[:, None],
        "thumbs": np.where(second[:, None], bank.thumbs[:, ::-1], bank.thumbs),
    }
    for name, values in changes.items():
        assert groups(replace(bank, **{name: values.astype(np.float32)}), track)[:2] == [[0], [1]]
