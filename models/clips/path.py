"""Chooses which frames of a composite source are shown: clips, actions and the transitions between them.

A beam search over the transitions of the next seconds minimises what is visible: clips of the wrong kind, transitions
between frames that differ, actions that start early or late, and repetition. Its unit is a frame of the wrong kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.clips.graph import OWN, ClipGraph

_HORIZON_SECONDS: Final = 8.0
_COMMIT_SECONDS: Final = 3.0
"""What is decided of a plan before the next one is made."""
_EARLY_SECONDS, _LATE_SECONDS = 1.0, 2.0
"""By which an action may start earlier and later than it should; otherwise it is not shown."""
_BEAM, _DEPTH = 48, 4

# Costs, in frames of the wrong kind at 25 per second.
_OWN: Final = 0.3  # of a frame of the avatar's own video where there is a clip of the right kind
_TRANSITION: Final = 8.0
_REPEATED: Final = 25.0  # the same clip again, where there is another one
_JITTER: Final = 10.0
_DEVIATION: Final = 2.0  # per frame
_DROPPED: Final = 1000.0
_END: Final = 25.0  # of a clip that must be left before the end of the plan

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]


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
        cue: The last action that was started; it and those before it are ignored. None: none was.
    """

    position: int = 0
    frame: int = 0
    num_chosen: int = 0
    action: str | None = None
    cue: ActionCue | None = None


Path = tuple[tuple[int, int], ...]
"""See `lipwright.media.playback.Playback.path`."""


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
        speaking: Ranges [start, stop) of positions in which somebody speaks, ascending. After the last position that is
            known from them or from `stop`, it is assumed to go on as there.
        actions: What is known of actions to come, by position; those that have started are ignored.
        seed: Chooses among clips and transitions that fit equally well. The same arguments give the same path.

    Raises:
        ValueError: The graph has no transition by which its current clip can be left.
    """
    if stop <= state.position:
        return (), state
    planner = _Planner(graph, state.position, stop, speaking, actions, seed)
    path = [(state.position, state.frame)]
    while state.position < stop:
        end = min(stop, state.position + round(_COMMIT_SECONDS * graph.fps))
        for step in planner.plan(state):
            if step.leave_at > end:
                break
            transition = graph.transitions[step.number]
            if transition.num_bridge:
                path.append((step.leave_at, transition.bridge))
            enter_at = step.leave_at + transition.num_bridge
            path.append((enter_at, transition.enter))
            name = planner.action_of(step.number)
            cue = state.cue if step.cue is None else step.cue
            state = PathState(enter_at, transition.enter, state.num_chosen + 1, name, cue)
        if (left := min(end - state.position, planner.frames_left(state.frame))) > 0:
            state = state._replace(position=state.position + left, frame=state.frame + left)
    return tuple(path), state


class _Step(NamedTuple):
    """A transition of a plan.

    Attributes:
        number: Its number in the graph.
        leave_at: Position of the first frame after the one that is left.
        cue: The action that starts with it.
    """

    number: int
    leave_at: int
    cue: ActionCue | None


class _Table(NamedTuple):
    """The transitions of a graph as arrays of K, and its clips as arrays of C."""

    leave: _Ints
    enter: _Ints
    num_bridge: _Ints
    cost: _Floats
    source: _Ints  # number of the clip that is left
    target: _Ints
    starts: _Ints  # first frame of each clip
    last: _Ints  # the last frame of each clip at which it can be left without starting an action; -1: none
    in_time: NDArray[np.bool_]  # whether a clip can still be left in another way if the action is cancelled
    kinds: list[str]


@lru_cache(maxsize=8)
def _table(graph: ClipGraph) -> _Table:
    columns = np.array([each[:5] for each in graph.transitions], np.float64).reshape(-1, 5).T
    leave, _, num_bridge, enter = columns[:4].astype(np.int64)
    starts = np.array([clip.start for clip in graph.clips], np.int64)
    source, target = (np.searchsorted(starts, at, side="right") - 1 for at in (leave, enter))
    last = np.full(len(starts), -1, np.int64)
    kinds: list[str] = [clip.kind or "own" for clip in graph.clips]
    free = np.array([kinds[clip] != "action" for clip in target], bool)
    np.maximum.at(last, source[free], leave[free])
    return _Table(leave, enter, num_bridge, columns[4], source, target, starts, last, leave <= last[source], kinds)


class _Labels(NamedTuple):
    """W partial plans: their costs so far, and where they have arrived."""

    cost: _Floats
    position: _Ints
    frame: _Ints
    clip: _Ints
    cue: _Ints  # the next action
    steps: list[tuple[_Step, ...]]


class _Planner:
    """Makes plans for one path."""

    def __init__(
        self,
        graph: ClipGraph,
        start: int,
        stop: int,
        speaking: Sequence[tuple[int, int]],
        actions: Sequence[ActionCue],
        seed: int,
    ) -> None:
        self._graph, self._start, self._seed = graph, start, seed
        self._table = table = _table(graph)
        seconds = _HORIZON_SECONDS, _EARLY_SECONDS, _LATE_SECONDS
        self._horizon, self._early, self._late = (round(each * graph.fps) for each in seconds)
        self._per_frame = 25 / graph.fps
        self._cues = sorted(actions, key=lambda cue: cue.position)
        self._names = [clip.name for clip in graph.clips]
        known = max([stop, *(end for _, end in speaking[-1:])])
        speaks = np.zeros(known - start + self._horizon + 1, bool)
        for first, end in speaking:
            speaks[max(first - start, 0) : max(end - start, 0)] = True
        speaks[known - start :] = speaks[known - start - 1]
        costs = np.array([[self._mismatch(kind, wanted) for wanted in ("idle", "talk")] for kind in table.kinds])
        # (C, positions + 1) cost of showing a clip from the start up to a position
        shown = costs[:, speaks.astype(int)]
        self._costs = np.concatenate([np.zeros((len(shown), 1)), np.cumsum(shown, 1)], 1)
        counts = {kind: table.kinds.count(kind) for kind in table.kinds}
        is_same = table.source == table.target
        repeats = np.array([counts[table.kinds[clip]] > 1 for clip in table.target], bool)
        self._fixed = _TRANSITION + table.cost + _REPEATED * (is_same & repeats)

    def action_of(self, number: int) -> str | None:
        """Return the action that a transition leads to."""
        target = int(self._table.target[number])
        return self._names[target] if self._table.kinds[target] == "action" else None

    def frames_left(self, frame: int) -> int:
        """Return how many frames after this one can be shown before its clip must be left."""
        return int(self._table.last[self._clip_of(frame)]) - frame

    def _clip_of(self, frame: int) -> int:
        return int(np.searchsorted(self._table.starts, frame, side="right")) - 1

    def plan(self, state: PathState) -> tuple[_Step, ...]:
        """Return the best transitions within the horizon, in order.

        Raises:
            ValueError: The clip ends before a transition.
        """
        end = state.position + self._horizon
        cues = self._next_cues(state, end)
        clip = self._clip_of(state.frame)
        root = [np.array([each], np.int64) for each in (state.position, state.frame, clip, 0)]
        labels = _Labels(np.zeros(1), root[0], root[1], root[2], root[3], [()])
        best: tuple[float, tuple[_Step, ...]] = np.inf, ()
        if self.frames_left(state.frame) >= self._horizon - 1:
            best = float(self._stay(labels, end, len(cues))[0]), ()
        for depth in range(_DEPTH):
            labels = self._extend(labels, end, cues, state.num_chosen + depth)
            if not labels.steps:
                break
            totals = self._stay(labels, end, len(cues))
            first = int(np.argmin(totals))
            if totals[first] < best[0]:
                best = float(totals[first]), labels.steps[first]
        if not np.isfinite(best[0]):
            raise ValueError(f"Expected a transition out of clip {self._names[clip]!r} after frame {state.frame}.")
        return best[1]

    def _mismatch(self, kind: str, wanted: str) -> float:
        if kind in (wanted, "action"):
            return 0.0
        if kind == "own":
            return _OWN * self._per_frame if wanted in self._table.kinds else 0.0
        return self._per_frame

    def _next_cues(self, state: PathState, end: int) -> list[ActionCue]:
        """Return the actions that can still be started, up to `end`."""
        last = state.cue or ActionCue(-1, OWN)
        cues = [cue for cue in self._cues if cue.position >= last.position and cue != last]
        if last in self._cues:  # those before it at the same position were started, or dropped
            passed = self._cues[: self._cues.index(last)]
            cues = [cue for cue in cues if cue not in passed]
        first, stop = state.position - self._late, end - self._late
        return [cue for cue in cues if first <= cue.position < stop and cue.name in self._names]

    def _shown(self, clip: _Ints, start: _Ints, stop: _Ints) -> _Floats:
        """Return the costs of showing clips at positions [start, stop)."""
        most = self._costs.shape[1] - 1
        first, last = (np.minimum(at - self._start, most) for at in (start, stop))
        return np.asarray(self._costs[clip, last] - self._costs[clip, first])

    def _stay(self, labels: _Labels, end: int, num_cues: int) -> _Floats:
        """Return the costs of plans that show the clips they have arrived at up to `end`."""
        left = labels.position + self._table.last[labels.clip] - labels.frame + 1
        cost = labels.cost + self._shown(labels.clip, labels.position, np.maximum(labels.position, end))
        return np.asarray(cost + _END * (left < end) + _DROPPED * (num_cues - labels.cue))

    def _extend(self, labels: _Labels, end: int, cues: Sequence[ActionCue], num_chosen: int) -> _Labels:
        """Return the best plans with one more transition."""
        table = self._table
        leave_at = (labels.position - labels.frame + 1)[:, None] + table.leave  # (W, K)
        plans, taken = np.nonzero(
            (table.source == labels.clip[:, None])
            & table.in_time
            & (table.leave >= labels.frame[:, None])
            & (leave_at < end)
        )
        leave_at = leave_at[plans, taken]
        enter_at = leave_at + table.num_bridge[taken]
        position, target = labels.position[plans], table.target[taken]
        costs = labels.cost[plans] + self._shown(table.source[taken], position, leave_at)
        costs += self._shown(target, leave_at, enter_at)
        costs += self._fixed[taken] + self._jitter(num_chosen)[taken]
        started, deviation = self._started(target, enter_at, labels.cue[plans], cues)
        costs += deviation
        after = np.where(started >= 0, started + 1, labels.cue[plans])
        kept = np.flatnonzero(np.isfinite(costs))
        if len(kept) > _BEAM:
            kept = kept[np.argpartition(costs[kept] + _DROPPED * (len(cues) - after[kept]), _BEAM)[:_BEAM]]
        steps = zip(plans[kept], taken[kept], leave_at[kept], started[kept], strict=True)
        made = [
            (*labels.steps[plan], _Step(int(number), int(at), cues[cue] if cue >= 0 else None))
            for plan, number, at, cue in steps
        ]
        return _Labels(costs[kept], enter_at[kept], table.enter[taken[kept]], target[kept], after[kept], made)

    def _started(
        self, target: _Ints, enter_at: _Ints, first: _Ints, cues: Sequence[ActionCue]
    ) -> tuple[_Ints, _Floats]:
        """Return the actions that transitions start, -1 for none, and the costs of starting them then."""
        started = np.full(len(target), -1, np.int64)
        cost = np.where(np.array([kind == "action" for kind in self._table.kinds])[target], np.inf, 0.0)
        for number, cue in reversed(list(enumerate(cues))):
            late = enter_at - cue.position
            fits = (target == self._names.index(cue.name)) & (-self._early <= late) & (late <= self._late)
            fits &= first <= number
            started[fits] = number
            cost[fits] = (_DEVIATION * self._per_frame * np.abs(late) + _DROPPED * (number - first))[fits]
        return started, cost

    def _jitter(self, num_chosen: int) -> _Floats:
        """Return (K,) costs that depend on the seed and on how many transitions were taken before."""
        mixed = np.arange(1, len(self._table.leave) + 1, dtype=np.uint64) * np.uint64(2654435761)
        mixed += np.uint64((self._seed * 40503 + num_chosen * 2246822519) % 2**32)
        mixed = (mixed ^ (mixed >> np.uint64(15))) * np.uint64(2246822519) % np.uint64(2**32)
        return _JITTER * (mixed ^ (mixed >> np.uint64(13))).astype(np.float64) / 2**32
