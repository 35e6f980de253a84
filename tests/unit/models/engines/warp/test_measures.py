"""What is measured of a job: on an avatar made of arithmetic, block by block."""

from __future__ import annotations

import pickle
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from models.avatar.mouth_calibration import MouthCalibration
from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.measures import measure_block
from models.engines.warp.plan import MouthPlan, plan_block
from models.quality.measures import SkippedRun, measure_view
from models.speech.speech_to_mouth import MouthBlock
from models.track.raw_landmarks import SkipReason
from tests.unit.models.synthetic_avatar import ABSENT, EYES, NUM_FRAMES, mouth_shapes


@pytest.fixture(scope="module")
def warp_avatar(talker: WarpAvatar) -> WarpAvatar:
    # Sizes as tracked, taken as they are: what goes in is what is planned.
    return replace(talker, calibration=MouthCalibration(np.ones(8, np.float32), np.zeros(8, np.float32)))


def make_plan(warp_avatar: WarpAvatar, mouth: MouthBlock, first: int, index: np.ndarray) -> MouthPlan:
    plan, _ = plan_block(warp_avatar, mouth, index.astype(np.int32), first, None)
    return plan


def mouth_of(shape: np.ndarray, gate: np.ndarray) -> MouthBlock:
    return MouthBlock(shape.astype(np.float32), gate.astype(np.float32))


def test_block_measures_add_up_to_whole(warp_avatar: WarpAvatar) -> None:
    shape, gate = mouth_shapes(40, 0.1), (np.arange(40) >= 10) * 1.0
    index = np.arange(40)
    whole_mouth = mouth_of(shape, gate)
    plan = make_plan(warp_avatar, whole_mouth, 0, index)
    whole = measure_block(warp_avatar, whole_mouth, plan)
    edges = [0, 13, 25, 40]
    parts = [
        measure_block(warp_avatar, mouth_of(shape[a:b], gate[a:b]), plan.slice(a, b))
        for a, b in zip(edges, edges[1:], strict=False)
    ]
    total = parts[0] + parts[1] + parts[2]
    assert total.num_frames == whole.num_frames == 40
    assert (total.num_by_reason == whole.num_by_reason).all()
    assert (total.used == whole.used).all()
    assert (total.num_drawn, total.num_open_in_silence) == (whole.num_drawn, whole.num_open_in_silence)
    for name in ("speech", "silence", "eye_distance"):
        ours, its = getattr(total, name), getattr(whole, name)
        assert (ours.num, ours.total, ours.squares) == pytest.approx((its.num, its.total, its.squares))
    np.testing.assert_allclose(total.extremes, whole.extremes)
    assert whole.jitter.rms is not None
    assert total.jitter.rms == pytest.approx(whole.jitter.rms, rel=0.2)  # without those across the borders
    assert len(pickle.dumps(total)) < 3000


@pytest.mark.parametrize(("seen", "num_open"), [("gap", 20), ("shape", 0)])
def test_measure_block_held_teeth_count_as_open(seen: str, num_open: int, warp_avatar: WarpAvatar) -> None:
    assert warp_avatar.bank is not None
    mouth, size = mouth_of(np.zeros((20, 8)), np.zeros(20)), getattr(warp_avatar.bank, seen).shape
    open_lips: dict[str, Any] = {seen: np.full(size, np.float32(0.06))}
    smiling = replace(warp_avatar, bank=replace(warp_avatar.bank, **open_lips))
    measures = measure_block(smiling, mouth, make_plan(smiling, mouth, 0, np.zeros(20)))
    assert measures.num_open_in_silence == num_open  # landmarks say how to close the lips, pixels do not
    assert not measures.source.shows_closed_mouth


def test_measure_block_jitter_is_of_the_result_frame_rate(warp_avatar: WarpAvatar) -> None:
    source = replace(warp_avatar, info=replace(warp_avatar.info, fps=Fraction(50)))
    mouth, index = mouth_of(mouth_shapes(15, 0.1), np.ones(15)), np.full(15, 2)
    plans = [make_plan(avatar, mouth, 0, index) for avatar in (warp_avatar, source)]
    jitters = [measure_block(avatar, mouth, plans[0]).jitter.rms for avatar in (warp_avatar, source)]
    assert jitters[0] and jitters[0] == jitters[1]
    assert (plans[0].exemplar == plans[1].exemplar).all() and (plans[0].fade == plans[1].fade).all()
    assert measure_block(source, replace(mouth, fps=Fraction(50)), plans[0]).jitter.rms == pytest.approx(4 * jitters[0])


def test_measure_block_separates_speech_and_silence(warp_avatar: WarpAvatar) -> None:
    shape, gate = np.zeros((40, 8)), (np.arange(40) >= 20) * 1.0
    shape[:10, 0] = 0.1  # open in silence
    shape[20::2, 0] = 0.05
    still = np.zeros(40)  # one frame of the source, far from its gap
    mouth = mouth_of(shape, gate)
    measures = measure_block(warp_avatar, mouth, make_plan(warp_avatar, mouth, 0, still))
    source, num = measures.source, len(measures.used)
    assert (source.talks, source.has_sound, source.shows_closed_mouth) == (True, False, True)
    assert warp_avatar.bank is not None and source.num_exemplars == num == len(warp_avatar.bank)
    assert measures.used.any() and not source.is_fitted
    assert (measures.silence.num, measures.speech.num) == (20, 20)
    assert measures.num_open_in_silence == 10
    assert measures.silence.std == pytest.approx(0.05, rel=1e-3)
    assert measures.speech.std == pytest.approx(0.025, rel=1e-3)
    assert measures.jitter.num == 18, "silence is not counted as smooth speech"


def test_measure_block_counts_skipped_frames_by_reason(warp_avatar: WarpAvatar) -> None:
    index = np.concatenate([np.arange(NUM_FRAMES), [ABSENT[0]]])
    mouth = mouth_of(np.zeros((len(index), 8)), np.ones(len(index)))
    measures = measure_block(warp_avatar, mouth, make_plan(warp_avatar, mouth, 0, index))
    assert measures.num_by_reason[SkipReason.NO_FACE] == len(ABSENT) + 1
    assert measures.num_by_reason.sum() == len(index)
    assert measures.eye_distance.num == NUM_FRAMES - len(ABSENT)
    assert measures.eye_distance.mean == pytest.approx(EYES, rel=0.05)
    first, stop = ABSENT[0], ABSENT[-1] + 1
    runs = ((first, stop), (NUM_FRAMES, NUM_FRAMES + 1))
    assert measures.skipped == tuple(SkippedRun(SkipReason.NO_FACE, *run) for run in runs)
    halves = [index[: first + 1], index[first + 1 :]]
    parts = [
        measure_view(warp_avatar.info, warp_avatar.track, True, half.astype(np.int32), np.ones(len(half), np.float32))
        for half in halves
    ]
    assert (parts[0] + parts[1]).skipped == measures.skipped  # across the border of two blocks, too
    # Around the gap the source's own mouth shows through.
    assert measures.speech.num < NUM_FRAMES - len(ABSENT)
    assert np.abs(measures.extremes[:, 1:]).max() < 10


def test_measure_block_counts_open_mouths_in_silence(warp_avatar: WarpAvatar) -> None:
    shape = warp_avatar.track.shape.copy()
    shape[ABSENT, 0] = 0.1
    open_there = replace(warp_avatar, track=replace(warp_avatar.track, shape=shape))
    index, silent = np.arange(NUM_FRAMES), np.zeros(NUM_FRAMES)
    for gate, num in ((silent, len(ABSENT)), (silent + 1, 0)):
        mouth = mouth_of(np.zeros((NUM_FRAMES, 8)), gate)
        assert measure_block(open_there, mouth, make_plan(open_there, mouth, 0, index)).num_skipped_open == num
        view = (open_there.info, open_there.track, True, index.astype(np.int32), gate.astype(np.float32))
        assert measure_view(*view).num_skipped_open == num


def test_measure_block_without_faces_has_no_other_measures(warp_avatar: WarpAvatar) -> None:
    mouth = mouth_of(mouth_shapes(4, 0.1), np.ones(4))
    measures = measure_block(warp_avatar, mouth, make_plan(warp_avatar, mouth, 0, np.full(4, ABSENT[0])))
    assert (measures.speech.num, measures.eye_distance.num, measures.num_drawn) == (0, 0, 0)
    assert not measures.used.any()
    assert np.isinf(measures.extremes).all()
    seen = measure_block(warp_avatar, mouth, make_plan(warp_avatar, mouth, 0, np.arange(4)))
    np.testing.assert_array_equal((measures + seen).extremes, seen.extremes)
