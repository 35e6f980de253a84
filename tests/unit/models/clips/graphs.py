"""A graph of clips made by hand, and a check of paths through it."""

from __future__ import annotations

from itertools import pairwise

from media.playback import Playback
from models.clips.graph import Clip, ClipGraph, Transition
from models.clips.path import Path

CLIPS = (
    Clip("", None, 0, 250),
    Clip("talk_a", "talk", 250, 500),
    Clip("talk_b", "talk", 500, 750),
    Clip("idle", "idle", 750, 1000),
    Clip("wave", "action", 1000, 1050),
)


def make_graph(*, exits_every: int = 10, clips: tuple[Clip, ...] = CLIPS) -> ClipGraph:
    """Each clip leads to each other one and back into itself; actions only from their end and to their start."""
    transitions, bridge = [], clips[-1].stop
    for clip in clips:
        for leave in range(clip.start + 5, clip.stop - 3, exits_every):
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
