"""Chooses which frames of a composite source are shown: clips, actions and the transitions between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from models.clips.graph import ClipGraph


class ActionCue(NamedTuple):
    """An action and when it should start, in source frames since the start of the result or session."""

    position: int
    name: str


class PathState(NamedTuple):
    """Where a path has arrived; the next one continues from here.

    Attributes:
        position: Source frames that are decided, since the start of the result or session.
        frame: The frame of the composite source that is shown next.
        num_chosen: Transitions that were taken.
        action: Name of the action that is being shown; None: none.
    """

    position: int = 0
    frame: int = 0
    num_chosen: int = 0
    action: str | None = None


Path = tuple[tuple[int, int], ...]
"""See `media.playback.Playback.path`."""


def extend_path(
    graph: ClipGraph,
    state: PathState,
    stop: int,
    speaking: Sequence[tuple[int, int]],
    actions: Sequence[ActionCue],
    seed: int,
) -> tuple[Path, PathState]:
    """Return the frames of positions from `state.position` to at least `stop`, and the state after them.

    Args:
        graph: The clips.
        state: Where the path before this one ended.
        stop: Position up to which frames are needed.
        speaking: Ranges [start, stop) of positions in which somebody speaks, ascending.
        actions: What is known of actions to come, by position; those that have started are ignored.
        seed: Chooses among clips and transitions that fit equally well. The same arguments give the same path.
    """
    raise NotImplementedError
