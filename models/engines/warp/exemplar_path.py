"""Selects the exemplar of each output frame: the cheapest path through the bank.

A Viterbi search as in unit selection (Bregler, Covell and Slaney, "Video Rewrite", SIGGRAPH 1997; Hunt and Black,
ICASSP 1996). The target cost of an exemplar is its difference in shape, pose and brightness. The join cost is zero for
the next frame of the source and otherwise grows with the visual difference. Only the K best candidates of each frame
are searched. The result is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.engines.warp.exemplars import LUMA_LEVELS, POSE_DEGREES, ExemplarBank
from models.mouth.shape import CHANNELS, DEFAULT_SCALE, NUM_CHANNELS, OPEN_MOUTH

_CANDIDATES = 36
# Weight of the lip gap relative to each other channel: it is the most visible one. With 8, 14, 16 and 20, the opening r
# of nine videos in the wild is .672, .684, .686 and .685 (mean). An unsuitable gap costs this much again.
_GAP_WEIGHT = 16.0
# Cost of a jump; per unit by which the correlation with the next source frame is below 1; of repeating a frame.
_JUMP, _UNLIKE, _HOLD = 0.3, 8.0, 0.1
_VELOCITY = 0.5
_FADE_FRAMES = 2  # on either side of a jump, at 25 fps
_BATCH = 64  # frames whose candidates are compared at once
_NEVER = np.float32(1e6)


@dataclass(frozen=True)
class PathState:
    """State from which the next block continues."""

    exemplar: int  # bank row of the last frame, -1 for none
    shape: NDArray[np.float32]  # (8,) target shape of that frame


@dataclass(frozen=True)
class PathTarget:
    """Target of the exemplar search in T output frames."""

    shape: NDArray[np.float32]  # (T, 8) mouth shapes
    pose: NDArray[np.float32]  # (T, 3) degrees
    luma: NDArray[np.float32]  # (T,) mean Y around the mouth
    forbidden: NDArray[np.bool_] | None = None  # (T, B) bool exemplars that may not be used, or None
    rate: float = 1.0  # frame rate as a multiple of 25 fps; converts costs per frame to costs per time


@dataclass(frozen=True)
class ExemplarPath:
    """The exemplars of T frames."""

    exemplar: NDArray[np.int32]  # (T,) bank rows
    fade: NDArray[np.int32]  # (T,) bank rows that are blended in around jumps, -1 for none
    fade_weight: NDArray[np.float32]  # (T,) their weight, below 0.5


def choose_path(bank: ExemplarBank, wanted: PathTarget, state: PathState | None) -> tuple[ExemplarPath, PathState]:
    """Find the cheapest path for T >= 1 frames; return it and the state to continue from."""
    weights = np.where(np.arange(NUM_CHANNELS) == CHANNELS.index("open_in"), np.float32(_GAP_WEIGHT), np.float32(1))
    root = np.sqrt(weights / weights.sum()) / DEFAULT_SCALE
    have, want = bank.shape * root, wanted.shape * root  # squared distances are now shape costs
    rows, cost = _candidates(_target_costs(bank, wanted, have, want) / np.float32(wanted.rate))
    last = None if state is None else (state.exemplar, state.shape * root)
    path = _search(_JoinCosts(bank, have, wanted.rate), rows, cost, want, last)
    exemplar = path.astype(np.int32)
    before = -1 if state is None else state.exemplar
    fade, weight = _fades(bank, exemplar, before, wanted)
    return ExemplarPath(exemplar, fade, weight), PathState(int(exemplar[-1]), wanted.shape[-1].copy())


def _squared_distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (len(a), len(b)) squared distances."""
    return np.asarray((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * (a @ b.T), np.float32)


def _target_costs(
    bank: ExemplarBank, wanted: PathTarget, have: NDArray[np.float32], want: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the (T, B) costs of showing each exemplar in each frame."""
    # One matrix product: shape, pose and brightness are all squared distances.
    ours = np.column_stack([have, bank.pose / POSE_DEGREES, bank.luma / LUMA_LEVELS]).astype(np.float32)
    theirs = np.column_stack([want, wanted.pose / POSE_DEGREES, wanted.luma / LUMA_LEVELS]).astype(np.float32)
    middle = ours.mean(0)
    cost = _squared_distances(theirs - middle, ours - middle)
    # The interior of an exemplar that is less open would be stretched; one that is more open never looks closed. The
    # former is visible where the lips part, the latter where they meet.
    shall_part = wanted.shape[:, :1] > OPEN_MOUTH
    missing = want[:, :1] - have[:, 0]
    unsuited = np.where(shall_part, np.maximum(missing, 0), np.minimum(missing, 0))
    cost += np.float32(_GAP_WEIGHT) * unsuited**2
    return cost if wanted.forbidden is None else np.where(wanted.forbidden, _NEVER, cost)


def _candidates(cost: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the K cheapest exemplars of each frame as (T, K) ascending rows, and their costs."""
    count = min(_CANDIDATES, cost.shape[1])
    rows = np.sort(np.argpartition(cost, count - 1, axis=1)[:, :count], axis=1)
    return rows, np.take_along_axis(cost, rows, 1)


class _JoinCosts:
    """Costs of going from one exemplar to another; squared distances of the (B, 8) scaled shapes `have` are costs."""

    def __init__(self, bank: ExemplarBank, have: NDArray[np.float32], rate: float) -> None:
        self._bank, self._have, self._rate = bank, have, rate
        self._next = _next_row(bank)

    def costs(
        self, source: NDArray[np.intp], target: NDArray[np.intp], motion: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the (S, J, K) costs of going from (S, J) to (S, K) exemplars while the target moves by (S, 8)."""
        bank, following = self._bank, self._next[source]
        likeness = bank.thumbs[following] @ bank.thumbs[target].swapaxes(1, 2)  # (S, J, K)
        cost = _JUMP + _UNLIKE * (1 - likeness)
        cost = np.where(target[:, None] == source[:, :, None], _HOLD / self._rate, cost)
        goes_on = (target[:, None] == following[:, :, None]) & (following != source)[:, :, None]
        cost = np.where(goes_on, 0, cost)
        start, end = self._have[source] + motion[:, None], self._have[target]
        gap = (start**2).sum(-1)[:, :, None] + (end**2).sum(-1)[:, None] - 2 * (start @ end.swapaxes(1, 2))
        return np.asarray(cost + _VELOCITY * gap, np.float32)


def _search(
    steps: _JoinCosts,
    rows: NDArray[np.intp],
    cost: NDArray[np.float32],
    want: NDArray[np.float32],
    before: tuple[int, NDArray[np.float32]] | None,
) -> NDArray[np.intp]:
    """Return the (T,) rows of the cheapest path through the candidates."""
    total = cost[0]
    if before is not None and before[0] >= 0:
        first = steps.costs(np.array([[before[0]]]), rows[:1], (want[0] - before[1])[None])
        total = total + first[0, 0]
    best = np.zeros(rows.shape, np.intp)
    columns = np.arange(rows.shape[1])
    for start in range(1, len(rows), _BATCH):
        stop = min(start + _BATCH, len(rows))
        motion = np.diff(want[start - 1 : stop], axis=0)
        between = steps.costs(rows[start - 1 : stop - 1], rows[start:stop], motion)
        for t in range(start, stop):
            ways = total[:, None] + between[t - start]
            best[t] = ways.argmin(0)
            total = ways[best[t], columns] + cost[t]
    path = np.empty(len(rows), np.intp)
    place = int(total.argmin())
    for t in range(len(rows) - 1, -1, -1):
        path[t] = rows[t, place]
        place = int(best[t, place])
    return path


def _next_row(bank: ExemplarBank) -> NDArray[np.intp]:
    """Return the (B,) row of the next source frame; the own row if it is not in the bank."""
    rows = np.arange(len(bank))
    goes_on = np.append(np.diff(bank.frames) == 1, False)
    return np.where(goes_on, rows + 1, rows)


def _fades(
    bank: ExemplarBank, path: NDArray[np.int32], before: int, wanted: PathTarget
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Crossfade the two runs over a few frames around each jump."""
    fade, weight = np.full(len(path), -1, np.int32), np.zeros(len(path), np.float32)
    whole = np.concatenate([[before], path])
    reach = max(1, round(_FADE_FRAMES * wanted.rate))
    jumps = np.flatnonzero((whole[1:] != whole[:-1]) & (whole[1:] != whole[:-1] + 1) & (whole[:-1] >= 0))
    for jump in jumps:
        for step in range(-reach, reach):
            t = jump + step
            row = int(whole[jump + 1] + step if step < 0 else whole[jump] + 1 + step)
            share = 0.5 * (1 - abs(step + 0.5) / reach)
            if not (0 <= t < len(path) and 0 <= row < len(bank)) or share <= weight[t]:
                continue
            home = int(whole[jump + 1] if step < 0 else whole[jump])
            is_same_run = bank.frames[row] - bank.frames[home] == row - home
            if is_same_run and (wanted.forbidden is None or not wanted.forbidden[t, row]):
                fade[t], weight[t] = row, share
    return fade, weight
