"""Avatars: build, save, load; and the plan that is planned from one."""

from __future__ import annotations

import pickle
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.errors import CancelledJobError
from lipwright.media.kept_squares import SquareReader
from models.avatar.avatar import Avatar
from models.avatar.folder import is_tracked
from models.avatar.mouth_calibration import MouthCalibration
from models.engines.warp.avatar import WarpAvatar, save_calibration
from models.engines.warp.crop import crop_faces
from models.engines.warp.exemplars import choose_frames
from models.engines.warp.generator import WarpFaceGenerator
from models.engines.warp.painting.fields import CONTROL_IDS
from models.engines.warp.plan import MouthPlan, blend_with_source, plan_block, plan_in_shots, plan_mouth
from models.mouth.lip_model import lip_gaps
from models.mouth.shape import OPEN_MOUTH
from models.speech.speech_to_mouth import MouthBlock
from models.track.raw_landmarks import RawLandmarks
from tests.unit.models.engines.warp.conftest import Build
from tests.unit.models.synthetic_avatar import ABSENT, NUM_FRAMES, FilmedAvatar, mouth_shapes


@pytest.fixture(scope="module")
def talker(build: Build) -> FilmedAvatar:
    return build(0.14)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("avatar")


@pytest.fixture(scope="module")
def warp_avatar(talker: FilmedAvatar, folder: Path) -> WarpAvatar:
    return talker.build(folder)


def test_warp_avatar_load_equals_built(warp_avatar: WarpAvatar, folder: Path) -> None:
    assert is_tracked(folder)
    loaded = WarpAvatar.load(Avatar.load(folder), folder / "warp")
    assert loaded.info == warp_avatar.info
    assert loaded.talks
    assert loaded.bank is not None and warp_avatar.bank is not None
    assert isinstance(loaded.bank.patches, np.memmap)
    assert (loaded.bank.patches == warp_avatar.bank.patches).all()
    assert (loaded.region.origins == warp_avatar.region.origins).all()
    assert (loaded.track.shape == warp_avatar.track.shape).all()


def test_exemplar_bank_holds_each_frame_with_face(talker: FilmedAvatar, warp_avatar: WarpAvatar) -> None:
    bank = warp_avatar.bank
    assert bank is not None
    assert bank.frames.tolist() == [frame for frame in range(NUM_FRAMES) if frame not in ABSENT]
    row = 9
    frame = int(bank.frames[row])
    with talker.reader() as reader:
        (planes,) = reader.read([frame])
    x, y = warp_avatar.region.origins[frame]
    luma, chroma = bank.planes(row)
    size = bank.region_size
    assert size % 32 == 0
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + size, 224), min(x + size, 224)
    assert (luma[top - y : bottom - y, left - x : right - x] == planes.y[top:bottom, left:right]).all()
    assert (
        chroma[1][(top - y) // 2 : (bottom - y) // 2, (left - x) // 2 : (right - x) // 2]
        == planes.v[top // 2 : bottom // 2, left // 2 : right // 2]
    ).all()
    np.testing.assert_allclose(np.linalg.norm(bank.thumbs, axis=1), 1, rtol=1e-4)


def test_choose_frames_long_source_is_sampled_in_runs() -> None:
    present = np.ones(1000, bool)
    present[100:200] = False
    frames = choose_frames(present, 150)
    assert len(frames) == 150
    assert present[frames].all()
    assert (np.diff(frames) == 1).sum() >= 140
    assert frames[0] == 0
    assert frames[-1] == 999


def test_exemplar_bank_closed_mouth_is_none(silent: WarpAvatar) -> None:
    assert not silent.talks
    assert silent.bank is None
    plan, state = plan_mouth(silent, mouth_shapes(20, 0.12), np.arange(20, dtype=np.int32), None)
    assert state is None
    assert (plan.exemplar == -1).all()
    assert plan.interior[gaps(plan) > 0.06].min() == 1
    assert plan.interior[:6].max() == 0


def gaps(plan: MouthPlan) -> NDArray[np.float32]:
    """(T,) between the middles of the planned inner lips, eye distances."""
    upper, lower = (CONTROL_IDS.index(point) for point in (13, 14))
    return np.asarray(plan.target_head[:, upper, 1] - plan.target_head[:, lower, 1])


def test_warp_analyse_stop_raises_cancelled_job_error(talker: FilmedAvatar, tmp_path: Path) -> None:
    assert not is_tracked(tmp_path)
    avatar = talker.avatar(tmp_path)
    assert is_tracked(tmp_path)
    with talker.reader() as reader, pytest.raises(CancelledJobError):
        WarpAvatar.analyse(avatar, tmp_path / "warp", SquareReader(reader), 100, lambda: True)


def test_plan_mouth_target_has_shape_and_keeps_other_points(warp_avatar: WarpAvatar) -> None:
    shape, index = mouth_shapes(12, 0.1), np.arange(12, dtype=np.int32)
    plan, _ = plan_mouth(warp_avatar, shape, index, None, first_frame=30)
    assert np.corrcoef(gaps(plan), shape[:, 0])[0, 1] > 0.99
    nose = CONTROL_IDS.index(2)
    np.testing.assert_array_equal(plan.target_head[:, nose], warp_avatar.track.head_points[index, 2])
    assert plan.first_frame == 30


def test_plan_mouth_still_with_parted_lips_closes(talker: FilmedAvatar, tmp_path: Path) -> None:
    frame = int(mouth_shapes(NUM_FRAMES, 0.14)[:, 0].argmax())
    present = np.arange(NUM_FRAMES) == frame
    smile = replace(talker, raw=RawLandmarks(talker.raw.points, present)).build(tmp_path)
    assert not smile.talks
    assert smile.track.is_rest_closed_by_model
    np.testing.assert_allclose(lip_gaps(smile.track.rest[None]), 0, atol=1e-6)
    assert smile.track.shape[frame, 0] > 0.08


def test_avatar_moving_mouth_that_never_closes_talks(talker: FilmedAvatar, tmp_path: Path) -> None:
    is_parted = mouth_shapes(NUM_FRAMES, 0.14)[:, 0] > 0.05
    warp_avatar = replace(talker, raw=RawLandmarks(talker.raw.points, talker.raw.present & is_parted)).build(tmp_path)
    assert warp_avatar.talks
    assert warp_avatar.track.is_rest_closed_by_model
    np.testing.assert_allclose(lip_gaps(warp_avatar.track.rest[None]), 0, atol=1e-6)
    assert warp_avatar.track.shape[warp_avatar.track.visible, 0].min() > 0.03
    shown = np.flatnonzero(warp_avatar.track.visible).astype(np.int32)
    plan, _ = plan_mouth(warp_avatar, mouth_shapes(len(shown), 0.0), shown, None)
    assert (plan.exemplar >= 0).all()
    assert gaps(plan).max() <= 0.06


def test_mouth_plan_slices_are_small_copies(warp_avatar: WarpAvatar) -> None:
    plan, _ = plan_mouth(warp_avatar, mouth_shapes(30, 0.1), np.arange(30, dtype=np.int32), None, first_frame=100)
    piece = plan.slice(10, 20)
    assert piece.first_frame == 110
    assert len(piece) == 10
    assert (piece.exemplar == plan.exemplar[10:20]).all()
    assert len(pickle.dumps(piece)) < 0.4 * len(pickle.dumps(plan))
    assert len(pickle.dumps(piece)) < 20_000


def test_warp_avatar_calibration_is_stored_and_applied(warp_avatar: WarpAvatar, folder: Path) -> None:
    mouth = MouthBlock(mouth_shapes(10, 0.1), np.ones(10, np.float32))
    index = np.arange(10, dtype=np.int32)
    plain, _ = plan_block(warp_avatar, mouth, index, 0, None)
    save_calibration(MouthCalibration(np.full(8, 0.5, np.float32), np.zeros(8, np.float32)), folder / "warp")
    halved, _ = plan_block(WarpAvatar.load(Avatar.load(folder), folder / "warp"), mouth, index, 0, None)
    lip = list(CONTROL_IDS).index(14)
    rest = warp_avatar.track.rest[14, 1]
    drop = (rest - plain.target_head[9, lip, 1], rest - halved.target_head[9, lip, 1])
    assert 0 < drop[1] < 0.7 * drop[0]


def test_blend_with_source_beside_gap_returns_source(warp_avatar: WarpAvatar) -> None:
    index = np.arange(NUM_FRAMES, dtype=np.int32)
    wanted = np.full((NUM_FRAMES, 8), 0.1, np.float32)
    blended = blend_with_source(warp_avatar, wanted, index)
    first, last = ABSENT[0] - 1, ABSENT[-1] + 1
    np.testing.assert_allclose(blended[[first, last]], warp_avatar.track.shape[[first, last]], atol=1e-6)
    np.testing.assert_array_equal(blended[: first - 5], wanted[: first - 5])
    own = warp_avatar.track.shape
    share = ((blended - own)[:, 0] / (wanted - own)[:, 0])[first - 4 : first + 1]
    assert (np.diff(share) <= 0).all()


def test_plan_held_mouth_beside_gap_stays_closed(warp_avatar: WarpAvatar) -> None:
    shape = warp_avatar.track.shape.copy()
    shape[ABSENT[0] - 5 : ABSENT[-1] + 6, 0] = 0.12  # the source's own mouth is open there
    avatar = replace(warp_avatar, track=replace(warp_avatar.track, shape=shape))
    index = np.arange(NUM_FRAMES, dtype=np.int32)
    silence = MouthBlock(np.zeros((NUM_FRAMES, 8), np.float32), np.zeros(NUM_FRAMES, np.float32))
    plan, _ = plan_block(avatar, silence, index, 0, None)
    assert np.abs(gaps(plan)).max() < OPEN_MOUTH


def test_generate_beside_gap_fades_and_keeps_gap(talker: FilmedAvatar, warp_avatar: WarpAvatar) -> None:
    index = np.arange(ABSENT[0] - 7, ABSENT[-1] + 8, dtype=np.int32)
    plan, _ = plan_mouth(warp_avatar, mouth_shapes(len(index), 0.1), index, None)
    with talker.reader() as reader:
        chunk = crop_faces(warp_avatar, plan, list(reader.read(index.tolist())))
    assert ((chunk.row == -1) == np.isin(index, ABSENT)).all()
    opacity = chunk.opacity[chunk.row]
    assert (np.diff(opacity[4:7]) < 0).all()
    assert opacity[[0, 1, -1]].min() == 1
    loud = WarpFaceGenerator().generate(replace(chunk, opacity=np.ones_like(chunk.opacity)))
    soft = WarpFaceGenerator().generate(chunk)
    base = chunk.crops_y[chunk.base].astype(int)
    changed = [np.abs(patches.y.astype(int) - base).sum((1, 2)) for patches in (loud, soft)]
    row = int(chunk.row[6])
    assert changed[1][row] < 0.2 * changed[0][row]
    assert changed[1][int(chunk.row[0])] == changed[0][int(chunk.row[0])]


def test_crop_faces_stores_each_picture_once(talker: FilmedAvatar, warp_avatar: WarpAvatar) -> None:
    plan, _ = plan_mouth(warp_avatar, mouth_shapes(3, 0.1), np.full(3, 5, np.int32), None)
    with talker.reader() as reader:
        one, other = reader.read([5, 6])
    chunk = crop_faces(warp_avatar, plan, [one, other, one])
    assert chunk.base[0] == chunk.base[2] != chunk.base[1], "a moving still shows several pictures of its frame"
    assert (chunk.crops_y[chunk.base[0]] != chunk.crops_y[chunk.base[1]]).any()


def test_plan_in_shots_avoids_exemplars_of_other_scenes(talker: FilmedAvatar, warp_avatar: WarpAvatar) -> None:
    half = NUM_FRAMES // 2
    assert warp_avatar.bank is not None
    shot = (np.arange(NUM_FRAMES) >= half).astype(np.int32)
    luma = warp_avatar.bank.luma + 40 * shot[warp_avatar.bank.frames].astype(np.float32)
    split = replace(warp_avatar, track=replace(warp_avatar.track, shot=shot), bank=replace(warp_avatar.bank, luma=luma))
    index = np.arange(NUM_FRAMES, dtype=np.int32)
    plan, _ = plan_in_shots(split, mouth_shapes(NUM_FRAMES, 0.12), index, None)
    assert (shot[warp_avatar.bank.frames[plan.exemplar]] == shot[index]).all()
    faded = plan.fade >= 0
    assert (shot[warp_avatar.bank.frames[plan.fade[faded]]] == shot[index[faded]]).all()


def test_plan_in_shots_without_exemplars_uses_own_lips(warp_avatar: WarpAvatar) -> None:
    shot = np.where(np.isin(np.arange(NUM_FRAMES), ABSENT), 1, 0).astype(np.int32)
    shot[ABSENT[-1] + 1 :] = 2
    split = replace(warp_avatar, track=replace(warp_avatar.track, shot=shot))
    plan, _ = plan_in_shots(split, mouth_shapes(NUM_FRAMES, 0.12), np.arange(NUM_FRAMES, dtype=np.int32), None)
    assert (plan.exemplar[list(ABSENT)] == -1).all()
    assert (plan.exemplar[: ABSENT[0]] >= 0).all()


@pytest.mark.parametrize("aspect", [Fraction(1, 300), Fraction(300)])
def test_region_unusual_pixel_aspect_stays_small(
    talker: FilmedAvatar, warp_avatar: WarpAvatar, tmp_path: Path, aspect: Fraction
) -> None:
    claimed = replace(talker, info=replace(talker.info, sample_aspect_ratio=aspect))
    assert claimed.build(tmp_path / "avatar").region.size <= 3 * warp_avatar.region.size
