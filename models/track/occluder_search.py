"""Finds what covers the mouth in the frames that `models.face.occlusion` reports, and lets them be rewritten.

Around each run of covered frames, the head is followed by its upper face, and every frame's lower face is compared with
uncovered ones of the same shot. Frames in which an object is found are rewritten behind it. Runs whose object cannot be
masked as a whole stay untouched. Where no object is found, or the head cannot be followed, nothing covers the mouth:
frames are rewritten as usual, but nothing is learned from them. Sources without covered frames cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.frame_source import FrameSource
from lipwright.media.yuv_frame import YuvFrame, cut
from models.face.lower_face import (
    CELLS,
    CELLS_PER_EYE_DISTANCE,
    Affine,
    HeadFollower,
    Picture,
    between_faces,
    grid_of,
    inverse,
    then,
    transformed,
)
from models.face.occluder_mask import UncoveredFace, disc
from models.geometry.head_frame import JAW, NOSE, OUTER_LOWER, OUTER_UPPER
from models.track.occluders import Occluders
from models.track.raw_landmarks import RawLandmarks, SkipReason
from models.track.visibility import Visibility

_AROUND_SECONDS: Final = 0.8  # an object is searched for this long before and after it covers the mouth
_MAX_SECONDS: Final = 30.0  # an object that stays longer is part of the picture: it is searched for, but not masked
_VIEWS, _MIN_VIEWS = 12, 5  # uncovered faces to compare with
_MIN_SHARE: Final = 0.5  # of the upper face that must be found again
_HIDDEN: Final = 0.85  # share of the lips from which on all of them count as covered
_MAX_STEP: Final = 0.3  # eye distances that the edge of an object moves between two frames
_AREA_RIM, _MASK_RIM = 0.05, 0.018  # eye distances over which the lower face fades out, and the edge of an occluder


class Found(NamedTuple):
    """The result of a search."""

    points: NDArray[np.float32]  # (N, 468, 3) `RawLandmarks.points`, with those of uncovered faces behind occluders
    judged: Visibility  # visibility, with the frames that can be rewritten behind occluders
    occluders: Occluders | None  # None if there are none


def find_occluders(raw: RawLandmarks, judged: Visibility, reader: FrameSource, fps: float) -> Found:
    """Search the covered frames of a track; read them, and frames around them, once more.

    Raises:
        MediaError: They cannot be decoded.
    """
    covered = judged.skip_reason == SkipReason.COVERED
    if not covered.any():
        return Found(raw.points, judged, None)
    near, passages = _near_covered(covered, _AROUND_SECONDS * fps), list[_Passage]()
    is_followed, is_behind = np.zeros((2, len(covered)), bool)
    for stretch in _stretches(judged, near & raw.present):
        clear = _clear(judged, int(judged.shot[stretch[0]]), fps)
        if len(clear) >= _MIN_VIEWS:
            searched = stretch[: int(_MAX_SECONDS * fps)]
            search = _Search(raw.points, judged.skip_reason, searched, clear, reader)
            is_followed[searched], is_behind[searched] = search.is_followed, search.is_behind
            passages += search.passages() if len(searched) == len(stretch) else []
    points, facing = raw.points.copy(), judged.facing.copy()
    reasons, visible = _without_undecided(judged.skip_reason, is_followed, is_behind), judged.visible.copy()
    for passage in passages:
        points[passage.frames] = passage.points
        reasons[passage.frames], visible[passage.frames] = SkipReason.NONE, False
        facing[passage.frames] = judged.facing[passage.uncovered]
    return Found(points, Visibility(judged.shot, reasons, visible, facing), _join(passages) if passages else None)


def _without_undecided(
    reasons: NDArray[np.uint8], is_followed: NDArray[np.bool_], is_behind: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return the reasons, with `NONE` for runs of covered frames unless most of those followed show an object."""
    result = reasons.copy()
    covered = np.flatnonzero(reasons == SkipReason.COVERED)
    for run in np.split(covered, np.flatnonzero(np.diff(covered) > 1) + 1):
        followed = run[is_followed[run]]
        if not len(followed) or is_behind[followed].mean() < 0.5:
            result[run] = SkipReason.NONE
    return result


def _near_covered(covered: NDArray[np.bool_], reach: float) -> NDArray[np.bool_]:
    """Return (N,) bool: whether a frame is covered, or within `reach` frames of one that is."""
    near = np.zeros_like(covered)
    for frame in np.flatnonzero(covered):
        near[max(0, frame - round(reach)) : frame + round(reach) + 1] = True
    return near


def _stretches(judged: Visibility, near: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Return the unbroken runs of frames `near` covered ones, each within one shot."""
    reasons = judged.skip_reason
    frames = np.flatnonzero(near & np.isin(reasons, (SkipReason.NONE, SkipReason.COVERED)))
    runs = np.split(frames, np.flatnonzero((np.diff(frames) > 1) | (np.diff(judged.shot[frames]) != 0)) + 1)
    return [run for run in runs if (reasons[run] == SkipReason.COVERED).any()]


def _clear(judged: Visibility, shot: int, fps: float) -> NDArray[np.intp]:
    """Return up to `_VIEWS` frames of a shot that show the mouth well, evenly spread.

    They are `_AROUND_SECONDS` from all covered ones; less, down to an eighth, if too few frames are.
    """
    covered, frames = judged.skip_reason == SkipReason.COVERED, np.zeros(0, np.intp)
    for part in (1, 2, 4, 8):
        near = _near_covered(covered, _AROUND_SECONDS * fps / part)
        frames = np.flatnonzero(judged.visible & ~near & (judged.shot == shot))
        if len(frames) >= _MIN_VIEWS:
            break
    return np.asarray(frames[np.unique(np.linspace(0, len(frames) - 1, min(_VIEWS, len(frames))).astype(int))])


@dataclass(frozen=True)
class _Passage:
    """Some frames with one object, and the uncovered face behind it."""

    frames: NDArray[np.intp]  # (M,)
    places: NDArray[np.float64]  # (M, 2, 3) from cells to frame pixels
    masks: NDArray[np.uint8]  # (M, 96, 96)
    points: NDArray[np.float32]  # (M, 468, 3)
    uncovered: int  # the frame whose uncovered face is behind the object
    face: YuvFrame  # the square part of that frame that contains the grid
    face_from: Affine  # from cells to its pixels
    area: NDArray[np.uint8]  # (96, 96) the lower face


class _Search:
    """The search of one stretch of frames.

    Attributes:
        is_followed: (M,) whether the head is found in each frame.
        is_behind: (M,) whether an object in front of the lower face is found.
    """

    def __init__(
        self,
        points: NDArray[np.float32],
        reasons: NDArray[np.uint8],
        stretch: NDArray[np.intp],
        clear: NDArray[np.intp],
        reader: FrameSource,
    ) -> None:
        self._points, self._stretch, self._reader = points, stretch, reader
        self._is_covered = reasons[stretch] == SkipReason.COVERED
        self._first = int(clear[np.abs(clear - stretch[0]).argmin()])  # what the grid is defined in
        self._grid = grid_of(points[self._first])
        self._area = _lower_face(points[self._first], self._grid)
        pictures = dict(zip(clear.tolist(), map(self._picture, clear, reader.read(clear.tolist())), strict=True))
        same_face = (then(self._grid, between_faces(points[self._first], points[each])) for each in clear)
        uncovered = UncoveredFace(np.stack([pictures[int(n)].view(g) for n, g in zip(clear, same_face, strict=True)]))
        self._places, share, masks = self._follow(pictures[self._first], uncovered)
        self.is_followed = share >= _MIN_SHARE
        self._masks = masks & self.is_followed[:, None, None]
        self.is_behind = np.asarray((self._masks & (self._area > 127)).any((1, 2)))

    def passages(self) -> list[_Passage]:
        """Return the object of each run of covered frames, in two halves: each has the uncovered face next to it.

        A run is rewritten as a whole or not at all.
        """
        found, frames = [], np.arange(len(self._stretch))
        left = np.pad(self._is_covered & ~self.is_behind, 1)  # covered frames in which nothing is found
        for run in np.split(frames, np.flatnonzero(np.diff(self.is_behind)) + 1):
            is_whole = not (left[run[0]] or left[run[-1] + 2])
            if self.is_behind[run[0]] and self._is_covered[run].any() and is_whole:
                before, after = self._find_uncovered(run[0] - 1, -1), self._find_uncovered(run[-1] + 1, 1)
                middle = len(run) // 2 if before is not None and after is not None else len(run) * (after is None)
                halves = ((run[:middle], before), (run[middle:], after))
                found += [self._passage(half, face) for half, face in halves if len(half) and face is not None]
        return found

    def _find_uncovered(self, frame: int, step: int) -> int | None:
        """Return the first frame of the stretch, from `frame` on, that shows the whole face; None without any."""
        while 0 <= frame < len(self._stretch):
            if self.is_followed[frame] and not self.is_behind[frame] and not self._is_covered[frame]:
                return frame
            frame += step
        return None

    def _picture(self, frame: int, planes: YuvFrame) -> Picture:
        return Picture.of(planes, self._points[frame], self._points[self._first])

    def _follow(
        self, first: Picture, uncovered: UncoveredFace
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Return the place of the grid, the share of the upper face, and the mask of each frame."""
        follower = HeadFollower(first, self._points[self._first])
        motion = np.hstack([np.eye(2), np.zeros((2, 1))])
        places, shares, masks = [], [], []
        for frame, planes in zip(self._stretch.tolist(), self._reader.read(self._stretch.tolist()), strict=True):
            picture = self._picture(frame, planes)
            motion, share = follower.find(picture, motion)
            places.append(then(self._grid, motion))
            shares.append(share)
            masks.append(uncovered.occluder(picture.view(places[-1])))
        return np.stack(places), np.array(shares), _steady(np.stack(masks))

    def _passage(self, half: NDArray[np.intp], face: int) -> _Passage:
        frame, place = int(self._stretch[face]), self._places[face]
        (planes,) = self._reader.read([frame])
        lips = _outline(self._points[frame], place, [*OUTER_UPPER, *OUTER_LOWER[::-1]], 0.03)
        moved = [transformed(self._points[frame], then(inverse(place), self._places[k])) for k in half]
        size = int(np.ceil(CELLS * np.sqrt(2 * np.linalg.det(place[:, :2])))) // 2 * 2 + 2
        x, y = (int(value) for value in np.rint((place @ [CELLS / 2, CELLS / 2, 1] - size / 2) / 2) * 2)
        return _Passage(
            self._stretch[half],
            self._places[half],
            np.stack([_soft(_whole_lips(self._masks[k], lips)) for k in half]),
            np.stack(moved).astype(np.float32),
            frame,
            cut(planes, x, y, size),  # a whole frame for each passage would not fit the memory
            then(place, np.array([[1, 0, -x], [0, 1, -y]], np.float64)),
            self._area,
        )


def _steady(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Remove from (M, 96, 96) masks what shows in a single frame, and is not near there in either adjacent one."""
    drawn = masks.astype(np.uint8)
    near = np.stack([cv2.dilate(mask, disc(_MAX_STEP)) for mask in drawn]) > 0
    before, after = np.concatenate([near[:1], near[:-1]]), np.concatenate([near[1:], near[-1:]])
    return np.asarray(masks & (before | after))


def _outline(points: NDArray[np.floating], place: Affine, ids: list[int], margin: float) -> NDArray[np.uint8]:
    """Return (96, 96) 1 in the hull of some landmarks, widened by a margin in eye distances."""
    cells = transformed(points[ids, :2], inverse(place))
    filled = np.zeros((CELLS, CELLS), np.uint8)
    cv2.fillConvexPoly(filled, cv2.convexHull(np.rint(cells).astype(np.int32)), 1)
    return np.asarray(cv2.dilate(filled, disc(margin)), np.uint8)


def _lower_face(points: NDArray[np.floating], grid: Affine) -> NDArray[np.uint8]:
    """Return (96, 96) 255 in the lower face of an uncovered frame, fading out at its outline and at the border."""
    area = _outline(points, grid, [*(each for each in JAW if each not in (234, 454)), *NOSE], 0.02)
    rim = round(2 * _AREA_RIM * CELLS_PER_EYE_DISTANCE)
    area[:rim] = area[-rim:] = area[:, :rim] = area[:, -rim:] = 0
    return np.asarray(cv2.GaussianBlur(area * np.uint8(255), (0, 0), _AREA_RIM * CELLS_PER_EYE_DISTANCE), np.uint8)


def _whole_lips(mask: NDArray[np.bool_], lips: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Cover all of the lips if hardly anything of them is left, so that no spot of a mouth shows on a hand."""
    return mask | (lips > 0) if mask[lips > 0].mean() > _HIDDEN else mask


def _soft(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.asarray(
        cv2.GaussianBlur(mask.astype(np.uint8) * np.uint8(255), (0, 0), _MASK_RIM * CELLS_PER_EYE_DISTANCE), np.uint8
    )


def _join(passages: list[_Passage]) -> Occluders:
    size = max(len(each.face.y) for each in passages)
    faces = [cut(each.face, 0, 0, size) for each in passages]
    return Occluders(
        frames=np.concatenate([each.frames for each in passages]).astype(np.int32),
        places=np.concatenate([each.places for each in passages]),
        masks=np.concatenate([each.masks for each in passages]),
        plate=np.repeat(np.arange(len(passages)), [len(each.frames) for each in passages]).astype(np.int32),
        faces_y=np.stack([face.y for face in faces]),
        faces_uv=np.stack([np.stack([face.u, face.v]) for face in faces]),
        faces_from=np.stack([each.face_from for each in passages]),
        faces_area=np.stack([each.area for each in passages]),
    )
