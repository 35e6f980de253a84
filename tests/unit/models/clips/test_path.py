from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest

from models.clips.graph import Clip, ClipGraph
from models.clips.path import ActionCue, PathState, extend_path
from tests.unit.models.clips.graphs import CLIPS, check_steps, make_graph, shown

GRAPH = make_graph()
MINUTE = 1500


def entered(path: tuple[tuple[int, int], ...], name: str) -> list[int]:
    """Positions at which a clip is entered."""
    (clip,) = (clip for clip in CLIPS if clip.name == name)
    return [position for position, frame in path if clip.start <= frame < clip.stop]


def share(frames: list[int], name: str, parts: list[tuple[int, int]]) -> float:
    (clip,) = (clip for clip in CLIPS if clip.name == name)
    return float(np.mean([clip.start <= frames[at] < clip.stop for part in parts for at in range(*part)]))


@pytest.mark.parametrize("seed", range(4))
def test_extend_path_follows_only_clips_and_transitions(seed: int) -> None:
    path, state = extend_path(GRAPH, PathState(), MINUTE, [(100, 600), (700, 900)], [ActionCue(400, "wave")], seed)
    assert state.position >= MINUTE
    assert path[0] == (0, 0)
    assert check_steps(GRAPH, shown(path, MINUTE)) == state.num_chosen - (path[-1][0] >= MINUTE)


def test_extend_path_same_arguments_same_path() -> None:
    one, two, other = (extend_path(GRAPH, PathState(), MINUTE, [(0, MINUTE)], [], seed) for seed in (1, 1, 2))
    assert one == two
    assert one != other


def test_extend_path_shows_talk_in_speech_and_idle_in_pauses() -> None:
    speech, pauses = [(0, 400), (800, 1200)], [(400, 800), (1200, MINUTE)]
    path, _ = extend_path(GRAPH, PathState(), MINUTE, speech, [], 0)
    frames = shown(path, MINUTE)
    assert share(frames, "talk_a", speech) + share(frames, "talk_b", speech) > 0.85
    assert share(frames, "idle", pauses) > 0.85
    assert share(frames, "idle", speech) < 0.05


def test_extend_path_short_pause_is_no_reason_to_change() -> None:
    path, _ = extend_path(GRAPH, PathState(), 400, [(0, 195), (205, 400)], [], 0)
    assert not entered(path, "idle")


def test_extend_path_repeats_no_clip_where_there_is_another() -> None:
    path, _ = extend_path(GRAPH, PathState(), 10 * MINUTE, [(0, 10 * MINUTE)], [], 0)
    clips = [next(clip.name for clip in CLIPS if frame < clip.stop) for _, frame in path if frame < CLIPS[-1].stop]
    assert {"talk_a", "talk_b"} == set(clips[1:])
    assert all(before != after for before, after in pairwise(clips))


def test_extend_path_single_clip_loops_without_going_backwards() -> None:
    graph = make_graph(clips=CLIPS[:1])
    path, state = extend_path(graph, PathState(), MINUTE, [], [], 0)
    check_steps(graph, shown(path, MINUTE))
    assert 6 <= state.num_chosen <= 12  # 250 frames, of which most are shown each time


@pytest.mark.parametrize("position", [60, 333, 1000])
def test_extend_path_action_starts_near_its_position(position: int) -> None:
    path, _ = extend_path(GRAPH, PathState(), MINUTE, [(0, MINUTE)], [ActionCue(position, "wave")], 0)
    (start,) = entered(path, "wave")
    assert abs(start - position) <= 5
    frames = shown(path, start + 36)
    assert all(CLIPS[-1].start <= frame < CLIPS[-1].stop for frame in frames[start : start + 25])


def test_extend_path_ten_actions_in_a_second_drops_late_ones() -> None:
    cues = [ActionCue(200 + 2 * number, "wave") for number in range(10)]
    path, _ = extend_path(GRAPH, PathState(), MINUTE, [(0, MINUTE)], cues, 0)
    starts = entered(path, "wave")
    assert 175 <= starts[0] <= 205
    assert 1 <= len(starts) <= 3
    assert all(start - 218 <= 50 for start in starts)


def test_extend_path_unknown_action_is_left_out() -> None:
    cues = [ActionCue(200, "nod"), ActionCue(300, "wave")]
    path, _ = extend_path(GRAPH, PathState(), MINUTE, [], cues, 0)
    assert len(entered(path, "wave")) == 1


def test_extend_path_chunk_by_chunk_shows_each_action_once() -> None:
    state, whole = PathState(), tuple[tuple[int, int], ...]()
    cues, actions = [ActionCue(100, "wave"), ActionCue(100, "nod"), ActionCue(400, "wave")], []
    for stop in range(4, MINUTE, 4):
        path, state = extend_path(GRAPH, state, stop, [(0, 700)], cues, 0)
        whole += path
        actions.append(state.action)
        assert state.position >= stop
    frames = shown(whole, MINUTE - 4)
    check_steps(GRAPH, frames)
    starts = [
        at for at in sorted(set(entered(whole, "wave"))) if not CLIPS[-1].start <= frames[at - 1] < CLIPS[-1].stop
    ]
    assert len(starts) == 2
    assert all(abs(start - position) <= 5 for start, position in zip(starts, (100, 400), strict=True))
    assert set(actions) == {None, "wave"}


def test_extend_path_position_reached_returns_nothing() -> None:
    state = PathState(position=30, frame=10)
    assert extend_path(GRAPH, state, 30, [], [], 0) == ((), state)


def test_extend_path_clip_that_cannot_be_left_raises() -> None:
    graph = ClipGraph((Clip("", None, 0, 50),), ())
    with pytest.raises(ValueError, match="transition out of clip ''"):
        extend_path(graph, PathState(), 10, [], [], 0)


@pytest.mark.timeout(60)
def test_extend_path_leaves_clip_before_exit_to_action_only() -> None:
    start = CLIPS[-1].start
    kept = [each for each in GRAPH.transitions if each.leave % 250 < 200 or max(each.leave, each.enter) >= start]
    graph = ClipGraph(CLIPS, tuple(kept))
    path, _ = extend_path(graph, PathState(), MINUTE, [(0, MINUTE)], [], 0)
    check_steps(graph, shown(path, MINUTE))
    assert not entered(path, "wave")
    for step in (2, 25):
        state, chunks = PathState(), list[tuple[int, int]]()
        for stop in range(step, 320, step):
            path, state = extend_path(graph, state, stop, [(0, 400)], [ActionCue(240, "wave")], 0)
            chunks += path
        check_steps(graph, shown(tuple(chunks), 300))


def test_extend_path_takes_little_time() -> None:
    cues = [ActionCue(at, "wave") for at in range(0, 10 * MINUTE, 200)]
    start = time.process_time()
    extend_path(GRAPH, PathState(), 10 * MINUTE, [(at, at + 150) for at in range(0, 10 * MINUTE, 250)], cues, 0)
    assert time.process_time() - start < 2
