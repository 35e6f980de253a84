"""Finds where clips can be left and entered: places where a few frames in a row are alike.

Short windows of frames are compared, so that motion continues as well as position (Schödl, Szeliski, Salesin and Essa,
"Video Textures", SIGGRAPH 2000). The unit of a difference is the usual one between neighbouring frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.errors import CancelledJobError
from lipwright.media.yuv_frame import YuvFrame
from models.clips.fitting import FittedClip
from models.clips.graph import Clip
from models.geometry.head_frame import EYES, RIGID

MAX_BRIDGE_SECONDS: Final = 0.24
MAX_BRIDGE_FRAMES: Final = 1500
MAX_TRANSITIONS: Final = 400
"""In one composite."""
_SPACINGS: Final = (np.inf, 4.0, 2.0, 1.0, 0.5)
"""Seconds between two exits of one clip to another; the narrower the spacing, the later it is added."""
_ZONE_SECONDS: Final = 1.0
"""Before the end of a clip, in which there is a way out of it; at most a third of the clip."""
_ACTION_ZONE_SECONDS: Final = 0.4
"""The same of an action, and at its start, where it is entered; at most a sixth of it, so that most of it is shown."""
_MAX_JUMP: Final = 12.0
"""Usual steps to which transitions are limited that are not needed to leave a clip or to start an action."""
_ACTION_SPACING: Final = 2.0
"""Seconds between two ways to an action from another clip, whatever their jumps."""
_UNUSABLE: Final = 1e6
_MIN_MOTION, _MIN_CHANGE = 0.003, 0.5
"""Least usual step, in eye distances, and least usual change of the picture, in levels: those of trackers and noise."""

_LITTLE: Final = 1e-3  # weight of the face, which may fill the picture
_STEPS_AT_ONCE: Final = 250

_CELLS: Final = (64, 36)
_POINTS: Final = (*RIGID, *(point for eye in EYES for row in eye for point in row))


class FrameFeatures(NamedTuple):
    """A small picture of one frame.

    Attributes:
        picture: (2304,) uint8, luma.
        is_beside: (2304,) bool, whether a cell is beside the face.
    """

    picture: NDArray[np.uint8]
    is_beside: NDArray[np.bool_]

    @classmethod
    def of(cls, frame: YuvFrame, points: NDArray[np.float32]) -> FrameFeatures:
        """Return the features of a frame with a face at (468, 2) points."""
        picture = cv2.resize(frame.y, _CELLS, interpolation=cv2.INTER_AREA).ravel()
        height, width = frame.y.shape
        cells = points * [_CELLS[0] / width, _CELLS[1] / height]
        hull = cv2.convexHull(np.rint(cells).astype(np.int32))
        face = cv2.fillConvexPoly(np.zeros(_CELLS[::-1], np.uint8), hull, 1)
        return cls(np.asarray(picture, np.uint8), face.ravel() == 0)


class Match(NamedTuple):
    """Frame `before` of one clip is like frame `after` of another, and so are those around them.

    Attributes:
        half: The bridge replaces this many frames before them, and as many from them on.
        cost: As in `Transition`.
    """

    before: int
    after: int
    half: int
    cost: float

    @property
    def leave(self) -> int:
        """The last frame before the transition."""
        return self.before - self.half - 1

    @property
    def enter(self) -> int:
        """The first frame after it."""
        return self.after + self.half

    @property
    def replaced(self) -> range:
        """The frames that would follow `leave`; the bridge starts as they do."""
        return range(self.before - self.half, self.before + self.half)

    @property
    def replacing(self) -> range:
        """The frames that precede `enter`; the bridge ends as they do."""
        return range(self.after - self.half, self.after + self.half)


def find_matches(
    clips: Sequence[Clip],
    fitted: Sequence[FittedClip],
    features: Sequence[FrameFeatures],
    fps: float,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Match]:
    """Return the transitions of a composite source.

    Args:
        clips: Their frames, one clip after the other. Actions are entered near their start and left near their end,
            the others anywhere. Each clip can be left near its end.
        fitted: The same clips.
        features: Of all frames.
        fps: Frames per second.
        should_stop: Whether to give up.

    Raises:
        CancelledJobError: `should_stop` returned true.
    """
    half = max(1, int(MAX_BRIDGE_SECONDS * fps) // 2)
    bounds = [_Bounds.of(clip, half, fps) for clip in clips]
    search = _Search(clips, fitted, _Frames.of(fitted, features), bounds, half)
    candidates: list[_Candidate] = []
    for source, clip in enumerate(clips):
        for slot in bounds[source].slots(clip, fps):
            if should_stop():
                raise CancelledJobError("The composition was cancelled.")
            candidates += search.best(slot, source)
    return _choose(candidates, clips, bounds, fps, 0 if fps * MAX_BRIDGE_SECONDS < 2 else half)


class _Bounds(NamedTuple):
    """Where a clip may be left and entered: half-open ranges of `Match.before` and `Match.after`."""

    leave: tuple[int, int]
    enter: tuple[int, int]
    zone: int  # length of the part at its end in which there must be a way out

    @classmethod
    def of(cls, clip: Clip, half: int, fps: float) -> _Bounds:
        seconds, share = (_ACTION_ZONE_SECONDS, 6) if clip.kind == "action" else (_ZONE_SECONDS, 3)
        zone = max(half + 1, min(round(seconds * fps), (clip.stop - clip.start) // share))
        # Whatever is entered can still be left: after the bridge in, before that out of the zone.
        stop = max(clip.stop - zone - 2 * half - 1, clip.start + half + 1)
        first = clip.start + half + 1
        if clip.kind != "action":
            return cls((first, clip.stop - half), (clip.start + half, stop), zone)
        return cls((clip.stop - zone, clip.stop - half), (clip.start + half, min(first + zone, stop)), zone)

    def parts(self) -> list[tuple[int, int]]:
        """Return the two halves of where it may be entered."""
        first, stop = self.enter
        middle = (first + stop + 1) // 2
        return [(first, middle), (middle, stop)] if middle < stop else [self.enter]

    def slots(self, clip: Clip, fps: float) -> Iterator[range]:
        """Yield ranges of half a second; the last begins where the zone does."""
        step, zone = round(_SPACINGS[-1] * fps), clip.stop - self.zone
        for first in range(self.leave[0], zone, step):
            yield range(first, min(first + step, zone))
        yield range(max(zone, self.leave[0]), self.leave[1])


class _Candidate(NamedTuple):
    source: int  # number of the clip that is left
    target: tuple[int, int]  # number of the clip that is entered, first frame of the part
    before: int
    after: int
    jump: float
    steps: float  # what a bridge changes, if all its steps are like the largest


@dataclass(frozen=True)
class _Frames:
    """All frames as vectors, so that differences are products of matrices."""

    face: NDArray[np.float32]  # (N, P * 2) eye distances
    picture: NDArray[np.float32]  # (N, 2304) levels; about 0 in the face
    energy: NDArray[np.float32]  # (N, 2304) squared levels; about 0 in the face
    beside: NDArray[np.float32]  # (N, 2304) 1 beside the face, about 0 in it

    @classmethod
    def of(cls, fitted: Sequence[FittedClip], features: Sequence[FrameFeatures]) -> _Frames:
        face = np.concatenate([clip.points[:, list(_POINTS)].reshape(len(clip.points), -1) for clip in fitted])
        face = (face - face.mean(0)) / fitted[0].eyes
        beside = np.array([each.is_beside for each in features], np.float32) + np.float32(_LITTLE)
        levels = np.array([each.picture for each in features], np.float32) - 128
        return cls(face, levels * beside, levels**2 * beside, beside)

    def differences(self, rows: slice, others: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (R, M) mean squared differences of faces (eye distances), and of the pictures beside them (levels)."""
        ours, theirs = self.face[rows], self.face[others]
        face = (ours**2).sum(1)[:, None] + (theirs**2).sum(1) - 2 * ours @ theirs.T
        energy = self.energy[rows] @ self.beside[others].T + self.beside[rows] @ self.energy[others].T
        picture = energy - 2 * self.picture[rows] @ self.picture[others].T
        return face / len(_POINTS), picture / (self.beside[rows] @ self.beside[others].T)

    def steps(self, clip: Clip) -> NDArray[np.float32]:
        """Return (2, N) squared differences of each frame of a clip and the one before it, the first two alike."""
        firsts = range(clip.start, clip.stop - 1, _STEPS_AT_ONCE)
        blocks = [slice(first, min(first + _STEPS_AT_ONCE, clip.stop - 1) + 1) for first in firsts]
        steps = [[np.diagonal(part, 1) for part in self.differences(block, block)] for block in blocks]
        least = np.array([[_MIN_MOTION**2], [_MIN_CHANGE**2]], np.float32)
        return np.asarray(np.maximum(np.pad(np.concatenate(steps, 1), ((0, 0), (1, 0)), "edge"), least), np.float32)


def _is_steady(clip: FittedClip, half: int) -> NDArray[np.bool_]:
    """Return (N,) whether a window around a frame is usable."""
    num = len(clip.is_seen)
    first, last = (np.clip(np.arange(num) + shift, 0, num - 1) for shift in (-half - 1, half))
    seen = np.concatenate([[0], np.cumsum(clip.is_seen)])
    return np.asarray((seen[last + 1] - seen[first] == last + 1 - first) & (clip.shot[first] == clip.shot[last]))


def _extra_motion(steps: NDArray[np.float32], half: int) -> NDArray[np.float32]:
    """Return (N,) by how much the largest squared step around each frame exceeds the usual largest one."""
    padded = np.pad(steps, half, "edge")
    largest = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1).max(1)
    return np.asarray(np.maximum(largest - np.median(largest), 0), np.float32)


class _Search:
    """Finds the best transitions from ranges of frames."""

    def __init__(
        self,
        clips: Sequence[Clip],
        fitted: Sequence[FittedClip],
        frames: _Frames,
        bounds: Sequence[_Bounds],
        half: int,
    ) -> None:
        self._frames, self._bounds, self._half = frames, bounds, half
        steps = [frames.steps(clip) for clip in clips]
        # (2, N) usual squared steps in the clip of each frame: of the face, of the picture.
        self._usual = np.concatenate(
            [np.broadcast_to(np.median(each, 1, keepdims=True), each.shape) for each in steps], 1
        )
        usual = np.split(self._usual, [clip.start for clip in clips[1:]], axis=1)
        self._extra_motion = np.concatenate(
            [_extra_motion((own / each).max(0), half) for own, each in zip(steps, usual, strict=True)]
        )
        self._is_steady = np.concatenate([_is_steady(clip, half) for clip in fitted])

    def best(self, slot: range, source: int) -> Iterator[_Candidate]:
        """Yield the best transition from a range of frames of a clip into each clip."""
        jumps = self._jumps(slot)
        # A bridge divides the jump among its steps; to each comes by how much the clips move faster than usual in it.
        extra = np.maximum(self._extra_motion[slot.start : slot.stop, None], self._extra_motion)
        steps = np.sqrt(jumps**2 + (2 * self._half + 1) ** 2 * extra)
        # The start of a clip, too, where it can go on for long.
        enter = [(target, part) for target, bound in enumerate(self._bounds) for part in bound.parts()]
        for target, (first, stop) in enter:
            part = steps[:, first:stop].copy()
            if target == source:  # neither forwards, nor back by so little that it is a stutter
                latest = np.array(slot)[:, None] - self._bounds[target].zone
                part[np.arange(first, stop) > latest] = np.inf
            row, column = np.unravel_index(np.argmin(part), part.shape)
            if np.isfinite(part[row, column]):
                before, after = slot.start + int(row), first + int(column)
                jump, step = float(jumps[row, first + column]), float(part[row, column])
                yield _Candidate(source, (target, first), before, after, jump, step)

    def _jumps(self, slot: range) -> NDArray[np.float32]:
        """Return (S, N) differences of windows around the frames of a slot and around all frames, in usual steps."""
        half, num = self._half, len(self._is_steady)
        rows = slice(slot.start - half, slot.stop + half - 1)
        squared = np.zeros((rows.stop - rows.start, num + 2 * half), np.float32)
        for difference, usual in zip(self._frames.differences(rows, slice(None)), self._usual, strict=True):
            squared[:, half : num + half] += difference.clip(0) / (usual[rows, None] + usual)
        window = sum(squared[k : k + len(slot), k : k + num] for k in range(2 * half))
        jumps = np.sqrt(np.asarray(window, np.float32) / (2 * half))
        jumps[~self._is_steady[slot.start : slot.stop]] += _UNUSABLE
        jumps[:, ~self._is_steady] += _UNUSABLE
        return jumps


def _choose(
    candidates: Sequence[_Candidate], clips: Sequence[Clip], bounds: Sequence[_Bounds], fps: float, max_half: int
) -> list[Match]:
    """Return transitions by importance, as many as there may be, with the bridges that their jumps need."""
    chosen: dict[tuple[int, int], Match] = {}
    num_frames = 0
    for each in dict.fromkeys(_by_importance(candidates, clips, bounds, fps)):
        half = min(max_half, max(0, int(np.ceil(each.jump - 1))))
        match = Match(each.before, each.after, half, max(0.0, each.jump - 1))
        if len(chosen) < MAX_TRANSITIONS and num_frames + 2 * half <= MAX_BRIDGE_FRAMES:
            chosen.setdefault((match.leave, match.enter), match)
            num_frames += 2 * half
    return list(chosen.values())


def _by_importance(
    candidates: Sequence[_Candidate], clips: Sequence[Clip], bounds: Sequence[_Bounds], fps: float
) -> Iterator[_Candidate]:
    """Yield ways out of the end of each clip, then the best one from each clip to each, then more and more.

    One at the end leads to the avatar's own video, and from the end of that to each clip: so each leads to each.
    """
    ordered = sorted(candidates, key=lambda each: each.steps)
    for number, clip in enumerate(clips):
        at_end = [each for each in ordered if each.source == number and each.before >= clip.stop - bounds[number].zone]
        yield next(each for each in at_end if clips[each.target[0]].kind != "action")
        for target in range(1 if number else len(clips)):
            yield from [each for each in at_end if each.target[0] == target][:1]
    for seconds in _SPACINGS:
        taken = set()
        for each in ordered:
            kinds = clips[each.source].kind, clips[each.target[0]].kind
            is_start = kinds[1] == "action" != kinds[0] and seconds >= _ACTION_SPACING
            limit = _UNUSABLE if is_start else _MAX_JUMP
            part = each.source, each.target[: 1 if seconds == np.inf else 2], int(each.before / fps / seconds)
            if part not in taken and each.steps < limit:
                taken.add(part)
                yield each
