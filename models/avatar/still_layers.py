"""The person in a still picture and the background behind, which stands still while the person moves.

The still is the sum of both: `I = P + (1 - alpha) B`. B equals the still outside the person, and is filled from there
behind the person. P moves with alpha. For any alpha and B, a person who does not move gives the still itself, and hair
that alpha misses moves as the difference from B.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.array_files import load_arrays
from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame
from models.geometry.arrays import remap
from models.track.face_track import FaceTrack

CutOut = Callable[[YuvFrame, ColourTags, FaceTrack], NDArray[np.uint8] | None]
"""Returns the (H, W) alpha of the person in a still, given its one-frame track; None if it is uncertain."""

_VISIBLE: Final = 8  # alpha from which a pixel shows the person, and the same for the background
_GUARD: Final = 0.015  # eye distances around such pixels that hair without alpha may colour
# Levels of Y, U and V by which the colour of the person may differ from that of a partly transparent pixel. Farther off
# is background that the matte took for the person: it moves with the person, but does not change its colour.
_MAX_CHANGES: Final = (60, 15, 15)
_SHARES: Final = 4  # of the most displacement, for which different numbers of pixels are composed
_COLUMNS: Final = 64  # of indices: OpenCV's maps have fewer than 32768 rows and columns
_FILL_RADIUS: Final = 3  # pixels around a filled one from which it is filled


class BackgroundPlane(NamedTuple):
    """The background in one plane."""

    plane: NDArray[np.uint8]  # (h, w)
    share: NDArray[np.uint8]  # (h, w) share of the background in the still: 255 - alpha
    seen: NDArray[np.uint8]  # (h, w) what that adds to the still

    @classmethod
    def of(cls, plane: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> BackgroundPlane:
        """Return the background `plane` behind a person of (h, w) alpha."""
        return cls(plane, 255 - alpha, _times(plane, 255 - alpha))

    def shown(
        self, moved: NDArray[np.uint8], index: NDArray[np.intp], places: NDArray[np.float32], interpolation: int
    ) -> NDArray[np.uint8]:
        """Return (K, L) pixels of a moved still in which the background stands still.

        Args:
            moved: (K, L) the pixels with the background that moved, too.
            index: (K, L) their flat indices.
            places: (K, L, 2) x and y from where they moved.
            interpolation: As the still was moved.
        """
        if not len(index):
            return moved
        share, own = remap(self.share, places, cv2.INTER_LINEAR), remap(self.seen, places, interpolation)
        change = cv2.subtract(_times(self.plane.take(index), share), own, dtype=cv2.CV_16S)
        return np.asarray(cv2.add(moved, change, dtype=cv2.CV_8U), np.uint8)


class Outline(NamedTuple):
    """Pixels of a plane that may show person and background, as (K, L) flat indices; some may be repeated.

    Those that show both in small displacements come first.
    """

    in_plane: NDArray[np.intp]
    in_box: NDArray[np.intp]
    num_rows: list[int]  # rows of the indices that are needed up to 0, 1 / `_SHARES`, ... 1 of the most displacement
    is_background: NDArray[np.uint8]  # (h, w) 1 in pixels of the box that show nothing else, unless they are indexed

    @classmethod
    def of(
        cls,
        needed: NDArray[np.float64],
        is_background: NDArray[np.bool_],
        box: tuple[int, ...],
        width: int,
        step: int,
    ) -> Outline:
        """Return the pixels in a plane of the still subsampled by `step`.

        Args:
            needed: (h, w) share of the most displacement from which luma pixels of the box are needed.
            is_background: (h, w) whether they show the background only up to there.
            box: In luma pixels.
            width: Of the still.
            step: Luma pixels per pixel of the plane.
        """
        height, columns = (size // step for size in needed.shape)
        blocks = height, step, columns, step
        level = np.ceil(needed.reshape(blocks).min((1, 3)) * _SHARES).reshape(-1)
        parts, num_rows = [], list[int]()
        for number in range(_SHARES + 1):
            chosen = np.flatnonzero(level == number)
            if len(chosen):
                parts.append(np.pad(chosen, (0, -len(chosen) % _COLUMNS), "edge"))
            num_rows.append(sum(map(len, parts)) // _COLUMNS)
        in_box = np.concatenate([np.zeros(0, np.intp), *parts]).reshape(-1, _COLUMNS)
        rows, across = np.divmod(in_box, columns)
        in_plane = (rows + box[1] // step) * (width // step) + across + box[0] // step
        return cls(in_plane, in_box, num_rows, np.asarray(is_background.reshape(blocks).all((1, 3)), np.uint8))

    def needed(self, share: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the indices in plane and box of the pixels needed at a share of the most displacement."""
        num = self.num_rows[min(int(np.ceil(share * _SHARES)), _SHARES)]
        return self.in_plane[:num], self.in_box[:num]


def _times(plane: NDArray[np.uint8], share: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.multiply(plane, share, scale=1 / 255), np.uint8)


@dataclass(frozen=True)
class StillLayers:
    """Person and background of one picture."""

    alpha: NDArray[np.uint8]  # (H, W)
    background: YuvFrame

    @classmethod
    def of(cls, still: YuvFrame, alpha: NDArray[np.uint8], unit: float) -> StillLayers:
        """Separate a still, given (H, W) alpha; `unit` is its pixels per eye distance."""
        # Without specks that a moving person would drag along, or that the background would show through.
        alpha = np.where(alpha < _VISIBLE, 0, np.where(alpha > 255 - _VISIBLE, 255, alpha)).astype(np.uint8)
        side = 2 * max(1, round(_GUARD * unit)) + 1
        person = cv2.dilate((alpha > 0).view(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
        half = person.reshape(still.u.shape[0], 2, -1, 2).max((1, 3))
        background = YuvFrame(*(_fill(*each) for each in zip(still, (person, half, half), strict=True)))
        return cls(np.maximum(alpha, _least_alpha(still, background)), background)

    @cached_property
    def planes(self) -> tuple[BackgroundPlane, BackgroundPlane, BackgroundPlane]:
        """The background of each plane."""
        half = np.asarray(cv2.resize(self.alpha, self.background.u.shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
        y, u, v = self.background
        return BackgroundPlane.of(y, self.alpha), BackgroundPlane.of(u, half), BackgroundPlane.of(v, half)

    def of_matte(self, matte: NDArray[np.uint8]) -> BackgroundPlane:
        """Return what is behind the person in (H, W) another matte of the still: what else that shows."""
        return BackgroundPlane.of(np.where(self.alpha > 0, 0, matte).astype(np.uint8), self.alpha)

    def save(self, path: Path) -> None:
        """Write the layers as an .npz."""
        with path.open("wb") as file:
            np.savez_compressed(file, alpha=self.alpha, **self.background._asdict())

    @classmethod
    def load(cls, path: Path) -> StillLayers:
        """Read what `save` wrote."""
        arrays = load_arrays(path)
        return cls(arrays.pop("alpha"), YuvFrame(**arrays))


def _least_alpha(still: YuvFrame, background: YuvFrame) -> NDArray[np.uint8]:
    """Return the (H, W) alpha with which the person's colour differs from the still's by up to `_MAX_CHANGES`."""
    size = still.y.shape[::-1]
    least = np.zeros(still.y.shape, np.float32)
    for own, behind, most in zip(still, background, _MAX_CHANGES, strict=True):
        difference = np.asarray(cv2.resize(cv2.absdiff(own, behind), size, interpolation=cv2.INTER_LINEAR), np.float32)
        least = np.maximum(least, difference / (difference + np.float32(most)))
    return np.asarray(np.rint(255 * least), np.uint8)


def _fill(plane: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if mask.all():
        return plane
    return np.asarray(cv2.inpaint(plane, np.asarray(mask, np.uint8), _FILL_RADIUS, cv2.INPAINT_TELEA), np.uint8)
