"""Decides which tracks of a scan show the same person, and numbers the people.

Tracks are merged by the similarity of their appearances (`models.face.appearance`), the most similar first
(agglomerative clustering with average linkage). Two tracks that share a frame are different people (a cannot-link
constraint).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.face.appearance import SAME_PERSON, STILL_SAME
from models.people.scan import FaceRows
from models.track.shots import shots_of

# Not measured: in longer sources, a face seen for less is taken for a passer-by or a false detection.
_MIN_SECONDS: Final = 0.4
_MAX_APPEARANCES: Final = 6  # appearances kept of a person
_MAX_COMPARED: Final = 1000  # tracks that are compared with one another; takes about ten seconds
# Tracks of one shot that follow each other within this time and place are one person down to a lower similarity,
# because a track ends when somebody turns away for a moment.
_NEAR_SECONDS: Final = 2.0
_NEAR_OVERLAP: Final = 0.3
_TINY: Final = 0.01  # margin of a track without an appearance that is near another


@dataclass(frozen=True)
class Identity:
    """One person: rows of a scan, in order of their frames, at most one for each frame, and K appearances."""

    rows: NDArray[np.intp]  # (M,) indices into `FaceRows`
    appearances: NDArray[np.float16]  # (K, 240)


@dataclass(frozen=True)
class _Track:
    """One track: its rows, in consecutive frames [start, stop), and its (L, 240) most different appearances."""

    rows: NDArray[np.intp]
    appearances: NDArray[np.float32]
    start: int
    stop: int


def identify(rows: FaceRows, fps: float) -> list[Identity]:
    """Return the people of a whole source, the one who is seen largest and longest first.

    Faces that are always turned away, and those that are seen for less than .4 seconds, are left out.
    """
    sizes = face_sizes(rows)
    tracks = sorted(_tracks(rows), key=lambda track: -float(sizes[track.rows].sum()))
    members = _clusters(*_margins(tracks[:_MAX_COMPARED], rows, fps))
    _add_others(members, tracks)
    min_rows = min(len(rows.scenes), max(1, round(_MIN_SECONDS * fps)))
    people = []
    for numbers in members:
        own = np.sort(np.concatenate([tracks[number].rows for number in numbers]))
        appearances = np.concatenate([tracks[number].appearances for number in numbers])
        if len(own) >= min_rows and len(appearances):
            people.append(Identity(own, _distinct(_typical(appearances)).astype(np.float16)))
    return sorted(people, key=lambda person: -float(sizes[person.rows].sum()))


def face_sizes(rows: FaceRows) -> NDArray[np.float32]:
    """Return (K,) the longer side of each face in pixels."""
    size: NDArray[np.float32] = (rows.box[:, 2:] - rows.box[:, :2]).max(1, initial=0)
    return size


def _tracks(rows: FaceRows) -> list[_Track]:
    order, appearance_order = (np.argsort(numbers, kind="stable") for numbers in (rows.track, rows.appearance_track))
    names = np.unique(rows.track)
    bounds, appearance_bounds = (
        (np.searchsorted(numbers, names, "left"), np.searchsorted(numbers, names, "right"))
        for numbers in (rows.track[order], rows.appearance_track[appearance_order])
    )
    tracks = []
    for first, last, first_appearance, last_appearance in zip(*bounds, *appearance_bounds, strict=True):
        own, appearances = (
            order[first:last],
            rows.appearance[appearance_order[first_appearance:last_appearance]].astype(np.float32),
        )
        tracks.append(_Track(own, _distinct(appearances), int(rows.frame[own[0]]), int(rows.frame[own[-1]]) + 1))
    return tracks


def _margins(
    tracks: list[_Track], rows: FaceRows, fps: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Compare all pairs of N tracks.

    Returns:
        (N, N) by how much they are more similar than different people are, (N, N) weight of that, and (N, N) whether
        they share a frame.
    """
    num = len(tracks)
    margins, weights = np.zeros((num, num), np.float32), np.zeros((num, num), np.float32)
    apart = np.array([[_overlap_in_time(a, b) for b in tracks] for a in tracks], np.bool_).reshape(num, num)
    shots = shots_of(rows.scenes)
    for i, a in enumerate(tracks):
        for j, b in enumerate(tracks[:i]):
            if apart[i, j]:
                continue
            is_near, have_appearances = _are_near(a, b, rows, shots, fps), len(a.appearances) and len(b.appearances)
            if have_appearances:
                margins[i, j] = _similarity(a.appearances, b.appearances) - (STILL_SAME if is_near else SAME_PERSON)
                weights[i, j] = len(a.appearances) * len(b.appearances)
            elif is_near:
                margins[i, j], weights[i, j] = _TINY, 1
    return margins + margins.T, weights + weights.T, apart


def _similarity(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the mean similarity of (L, 240) appearances to the most similar ones of the other; -1 without any."""
    if not (len(a) and len(b)):
        return -1.0
    alike = a @ b.T  # (La, Lb)
    return float(alike.max(0).mean() + alike.max(1).mean()) / 2


def _overlap_in_time(a: _Track, b: _Track) -> bool:
    return a.start < b.stop and b.start < a.stop


def _clusters(margins: NDArray[np.float32], weights: NDArray[np.float32], apart: NDArray[np.bool_]) -> list[list[int]]:
    """Merge the most similar groups of tracks until no margin is positive; return the tracks of each group."""
    totals, members = margins * weights, [[number] for number in range(len(margins))]
    while len(members) > 1:
        scores = np.where(apart | (weights == 0), -1.0, totals / np.maximum(weights, 1e-9))
        np.fill_diagonal(scores, -1.0)
        i, j = sorted(int(index) for index in np.unravel_index(scores.argmax(), scores.shape))
        if scores[i, j] <= 0:
            break
        members[i] += members.pop(j)
        kept = np.arange(len(totals)) != j
        for matrix in (totals, weights):
            matrix[i] += matrix[j]
            matrix[:, i] += matrix[:, j]
        apart[i] |= apart[j]
        apart[:, i] |= apart[:, j]
        totals, weights, apart = (matrix[kept][:, kept] for matrix in (totals, weights, apart))
    return members


def _add_others(members: list[list[int]], tracks: list[_Track]) -> None:
    """Add the tracks that were not compared to the most similar group that is not seen at the same time, in place."""
    appearances = [np.concatenate([tracks[number].appearances for number in numbers]) for numbers in members]
    for number in range(_MAX_COMPARED, len(tracks)):
        track = tracks[number]
        scores = [_similarity(track.appearances, each) for each in appearances]
        for group in np.argsort(scores)[::-1]:
            if scores[group] < SAME_PERSON:
                break
            if not any(_overlap_in_time(track, tracks[other]) for other in members[group]):
                members[group].append(number)
                break


def _typical(appearances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return those of (L, 240) appearances that match the most typical one; a blurred or turned face may not."""
    alike = appearances @ appearances.T
    is_typical = np.asarray(alike[alike.mean(1).argmax()] >= SAME_PERSON)
    return np.asarray(appearances[is_typical])


def _are_near(a: _Track, b: _Track, rows: FaceRows, shots: NDArray[np.int32], fps: float) -> bool:
    """Whether one track ends where and when the other begins, in the same shot."""
    first, second = (a, b) if a.start < b.start else (b, a)
    if second.start - first.stop > _NEAR_SECONDS * fps or shots[second.start] != shots[first.stop - 1]:
        return False
    return _overlap(rows.box[first.rows[-1]], rows.box[second.rows[0]]) > _NEAR_OVERLAP


def _overlap(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Return the intersection over union of two boxes x0, y0, x1, y1."""
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    areas = [float(np.prod(box[2:] - box[:2])) for box in (a, b)]
    return float(shared / max(sum(areas) - shared, 1e-9))


def _distinct(appearances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return at most six of (L, 240) appearances: the most typical one, then each time the least similar one."""
    if len(appearances) <= _MAX_APPEARANCES:
        return appearances
    alike = appearances @ appearances.T
    chosen = [int(alike.mean(1).argmax())]
    while len(chosen) < _MAX_APPEARANCES:
        chosen.append(int(alike[:, chosen].max(1).argmin()))
    return appearances[chosen]
