"""A composite source of 100 own frames and two actions, which can be reached every five frames."""

from __future__ import annotations

from models.clips.graph import Clip, ClipGraph, Transition

WAVE, NOD = range(100, 150), range(150, 170)


def acting_graph() -> ClipGraph:
    """Own video 0 to 99, `wave` 100 to 149, `nod` 150 to 169, and no bridges."""
    clips = (Clip("", None, 0, 100), Clip("wave", "action", 100, 150), Clip("nod", "action", 150, 170))
    ways = [(leave, clip.start) for leave in range(4, 100, 5) for clip in clips]
    ways += [(clip.stop - 1, 10) for clip in clips[1:]]
    return ClipGraph(clips, tuple(Transition(leave, 170, 0, enter, 0.0) for leave, enter in sorted(ways)))


def starts_of(path: tuple[tuple[int, int], ...], clip: range) -> list[int]:
    """The positions of a path at which a clip begins."""
    return [position for position, frame in path if frame == clip.start]
