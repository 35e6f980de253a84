"""A plan made a few frames at a time: nearly that of the whole, and no rougher."""

from __future__ import annotations

import numpy as np
import pytest

from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.plan import MouthPlan, plan_ahead, plan_block
from models.speech.speech_to_mouth import MouthBlock
from tests.unit.models.engines.warp.conftest import Build
from tests.unit.models.synthetic_avatar import NUM_FRAMES, mouth_shapes

NUM, AHEAD = 3, 4


@pytest.fixture(params=[0.14, 0.0], ids=["talker", "silent"])
def warp_avatar(request: pytest.FixtureRequest, build: Build) -> WarpAvatar:
    return build(request.param)[1]


def _mouth(num_frames: int) -> MouthBlock:
    shape = np.roll(mouth_shapes(num_frames, 0.1), 2, axis=0)
    gate = np.ones(num_frames, np.float32)
    gate[-8:] = 0
    return MouthBlock(shape * gate[:, None], gate)


def _piece(mouth: MouthBlock, start: int, stop: int) -> MouthBlock:
    return MouthBlock(mouth.shape[start:stop], mouth.gate[start:stop])


def _live(warp_avatar: WarpAvatar, mouth: MouthBlock, index: np.ndarray) -> list[MouthPlan]:
    parts, state = [], None
    for start in range(0, len(index) - AHEAD, NUM):
        stop = start + NUM + AHEAD
        part, state = plan_ahead(warp_avatar, _piece(mouth, start, stop), index[start:stop], start, state, NUM)
        parts.append(part)
    return parts


def test_plan_live_in_chunks_is_close_to_plan_of_whole(warp_avatar: WarpAvatar) -> None:
    num = (NUM_FRAMES - AHEAD) // NUM * NUM
    index, mouth = np.arange(num + AHEAD, dtype=np.int32), _mouth(num + AHEAD)
    whole, _ = plan_block(warp_avatar, mouth, index, 0, None)
    parts = _live(warp_avatar, mouth, index)
    assert [part.first_frame for part in parts] == list(range(0, num, NUM))
    assert {len(part) for part in parts} == {NUM}
    head = np.concatenate([part.target_head for part in parts])
    assert np.abs(head - whole.target_head[:num]).max() < 0.05, "eye distances"
    assert np.array_equal(np.concatenate([part.hold for part in parts]), whole.hold[:num])
    if warp_avatar.bank is not None:
        rows = np.concatenate([part.exemplar for part in parts])
        jumps = [int((np.diff(each) != 1).sum()) for each in (rows, whole.exemplar[:num])]
        assert jumps[0] <= 1.5 * jumps[1] + 2
