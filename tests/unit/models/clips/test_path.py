import json
import time
from itertools import pairwise

import numpy as np
import pytest

from lipwright.media.playback import Playback
from models.clips.graph import Clip, ClipGraph, Transition
from models.clips.path import ActionCue, Path, PathState, extend_path

CLIPS = (
    Clip("", None, 0, 250),
    Clip("talk_a", "talk", 250, 500),
    Clip("talk_b", "talk", 500, 750),
    Clip("idle", "idle", 750, 1000),
    Clip("wave", "action", 1000, 1050),
)


def make_graph(clips: tuple[Clip, ...] = CLIPS) -> ClipGraph:
    """Each clip leads to each other one and back into itself; actions only from their end and to their start."""
    transitions, bridge = [], clips[-1].stop
    for clip in clips:
        for leave in range(clip.start + 5, clip.stop - 3, 10):
            if clip.kind == "action" and leave < clip.stop - 15:
                continue
            for number, target in enumerate(clips):
                enter = target.start + 4 + (leave % 7)
                if target.kind == "action" and clip.kind == "action":
                    continue
                if target != clip or leave - enter > 50:
                    transitions.append(Transition(leave, bridge, number % 3, enter, 1.0 + leave % 5))
                    bridge += number % 3
    return ClipGraph(clips, tuple(sorted(transitions)))


def shown(path: Path, num: int) -> list[int]:
    """The composite frames of the first positions."""
    frames: list[int] = Playback(path=path).source_frames(range(num), 10**6).tolist()
    return frames


def check_steps(graph: ClipGraph, frames: list[int]) -> int:
    """Frames follow each other in a clip, or by a transition; returns the number of transitions."""
    steps, count = set(), 0
    for each in graph.transitions:
        bridge = range(each.bridge, each.bridge + each.num_bridge)
        steps |= set(pairwise([each.leave, *bridge, each.enter]))
    last = {clip.stop - 1 for clip in graph.clips}
    for before, after in pairwise(frames):
        if after != before + 1 or before in last or before >= graph.clips[-1].stop:
            assert (before, after) in steps
            count += after < graph.clips[-1].stop
    return count


GRAPH = make_graph()
MINUTE = 1500
FRAMES = {clip.name: range(clip.start, clip.stop) for clip in CLIPS}


def entered(path: Path, name: str) -> list[int]:
    """Positions at which a clip is entered."""
    return [position for position, frame in path if frame in FRAMES[name]]


def share(frames: list[int], name: str, parts: list[tuple[int, int]]) -> float:
    return float(np.mean([frames[at] in FRAMES[name] for part in parts for at in range(*part)]))


@pytest.mark.parametrize("seed", range(4))
def test_extend_path_follows_only_clips_and_transitions(seed: int) -> None:
    path, state = extend_path(GRAPH, PathState(), MINUTE, [(100, 600), (700, 900)], [ActionCue(400, "wave")], seed)
    assert state.position >= MINUTE
    assert path[0] == (0, 0)
    assert check_steps(GRAPH, shown(path, MINUTE)) == state.num_chosen - (path[-1][0] >= MINUTE)
    same, other = (extend_path(GRAPH, PathState(), MINUTE, [(0, MINUTE)], [], seed + step)[0] for step in (0, 1))
    assert same == extend_path(GRAPH, PathState(), MINUTE, [(0, MINUTE)], [], seed)[0] != other


def test_extend_path_shows_talk_in_speech_and_idle_in_pauses() -> None:
    speech, pauses = [(0, 400), (800, 1200)], [(400, 800), (1200, MINUTE)]
    path, _ = extend_path(GRAPH, PathState(), MINUTE, speech, [], 0)
    frames = shown(path, MINUTE)
    assert share(frames, "talk_a", speech) + share(frames, "talk_b", speech) > 0.85
    assert share(frames, "idle", pauses) > 0.85
    assert share(frames, "idle", speech) < 0.05
    short, _ = extend_path(GRAPH, PathState(), 400, [(0, 195), (205, 400)], [], 0)
    assert not entered(short, "idle")


def test_extend_path_repeats_no_clip_where_there_is_another() -> None:
    path, _ = extend_path(GRAPH, PathState(), 10 * MINUTE, [(0, 10 * MINUTE)], [], 0)
    clips = [next(clip.name for clip in CLIPS if frame < clip.stop) for _, frame in path if frame < CLIPS[-1].stop]
    assert {"talk_a", "talk_b"} == set(clips[1:])
    assert all(before != after for before, after in pairwise(clips))
    graph = make_graph(CLIPS[:1])
    path, state = extend_path(graph, PathState(), MINUTE, [], [], 0)
    check_steps(graph, shown(path, MINUTE))
    assert 6 <= state.num_chosen <= 12  # 250 frames, of which most are shown each time


@pytest.mark.parametrize("position", [60, 333, 1000])
def test_extend_path_action_starts_near_its_position(position: int) -> None:
    path, _ = extend_path(GRAPH, PathState(), MINUTE, [(0, MINUTE)], [ActionCue(position, "wave")], 0)
    (start,) = entered(path, "wave")
    assert abs(start - position) <= 5
    frames = shown(path, start + 36)
    assert all(frame in FRAMES["wave"] for frame in frames[start : start + 25])


def test_extend_path_ten_actions_in_a_second_drops_late_ones() -> None:
    cues = [ActionCue(200 + 2 * number, "wave") for number in range(10)]
    path, _ = extend_path(GRAPH, PathState(), MINUTE, [(0, MINUTE)], cues, 0)
    starts = entered(path, "wave")
    assert 175 <= starts[0] <= 205 and 1 <= len(starts) <= 3
    assert all(start - 218 <= 50 for start in starts)
    path, _ = extend_path(GRAPH, PathState(), MINUTE, [], [ActionCue(200, "nod"), ActionCue(300, "wave")], 0)
    assert len(entered(path, "wave")) == 1, "an unknown action is left out"


def test_extend_path_chunk_by_chunk_shows_each_action_once() -> None:
    state, whole = PathState(), Path()
    cues, actions = [ActionCue(100, "wave"), ActionCue(100, "nod"), ActionCue(400, "wave")], []
    for stop in range(4, MINUTE, 4):
        path, state = extend_path(GRAPH, state, stop, [(0, 700)], cues, 0)
        whole += path
        actions.append(state.action)
        assert state.position >= stop
    frames = shown(whole, MINUTE - 4)
    check_steps(GRAPH, frames)
    starts = [at for at in sorted(set(entered(whole, "wave"))) if frames[at - 1] not in FRAMES["wave"]]
    assert len(starts) == 2
    assert all(abs(start - position) <= 5 for start, position in zip(starts, (100, 400), strict=True))
    assert set(actions) == {None, "wave"}


def test_clip_graph_from_json_equals_to_json() -> None:
    graph = ClipGraph(CLIPS, (Transition(30, 90, 6, 55, 1.5), Transition(85, 96, 0, 4, 0.0)), 29.97)
    assert ClipGraph.from_json(json.loads(json.dumps(graph.to_json()))) == graph


def test_extend_path_reached_is_empty_and_dead_end_raises() -> None:
    state = PathState(position=30, frame=10)
    assert extend_path(GRAPH, state, 30, [], [], 0) == ((), state)
    with pytest.raises(ValueError, match="transition out of clip ''"):
        extend_path(ClipGraph((Clip("", None, 0, 50),), ()), PathState(), 10, [], [], 0)


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
