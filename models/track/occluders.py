"""Occluders of a face: masks of hands, microphones and cups, and the uncovered face behind them.

Before a frame with an occluder is cut, the occluder is replaced by the face of a near uncovered frame, so that engines
see a whole face. The face that they generate is then shown where the occluder is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.array_files import load_arrays, save_arrays
from lipwright.media.yuv_frame import Patch, YuvFrame, cut, paste_back
from models.face.lower_face import CELLS, Affine, inverse, then

T = TypeVar("T", np.uint8, np.float32)

_HALF: Final = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25]])  # from luma to chroma pixels


@dataclass(frozen=True)
class Occluders:
    """The occluders of M frames of a track, in grids of 96 x 96 cells; see `models.face.lower_face`."""

    frames: NDArray[np.int32]  # (M,) ascending source frames
    places: NDArray[np.float64]  # (M, 2, 3) from cells to frame pixels
    masks: NDArray[np.uint8]  # (M, 96, 96) 255 where the occluder is, with soft edges
    plate: NDArray[np.int32]  # (M,) the uncovered face behind it
    faces_y: NDArray[np.uint8]  # (P, S, S) uncovered faces
    faces_uv: NDArray[np.uint8]  # (P, 2, S / 2, S / 2)
    faces_from: NDArray[np.float64]  # (P, 2, 3) from cells to pixels of the uncovered face
    faces_area: NDArray[np.uint8]  # (P, 96, 96) 255 in the lower face, with soft edges

    def without(self, source_index: NDArray[np.integer], frames: list[YuvFrame]) -> list[YuvFrame]:
        """Return (T,) frames without their occluders, which are frames `source_index` of the source."""
        rows = self._rows(source_index)
        return [frame if row < 0 else self._without(int(row), frame) for row, frame in zip(rows, frames, strict=True)]

    def in_front(self, source_index: int, frame: YuvFrame, patch: Patch) -> Patch:
        """Return a patch that was generated from the frame `without` its occluder, behind the occluder."""
        (row,) = self._rows(np.array([source_index]))
        if row < 0:
            return patch
        size = patch.planes.y.shape[0]
        own = cut(frame, patch.x, patch.y, size)
        shown = self._area(int(row)) * (1 - self.masks[row] / np.float32(255))
        return Patch(patch.x, patch.y, _mix(own, patch.planes, self._spread(shown, int(row), patch.x, patch.y, size)))

    def save(self, path: Path) -> None:
        """Write a compressed .npz."""
        save_arrays(path, self, np.savez_compressed)

    @classmethod
    def load(cls, path: Path) -> Occluders:
        """Read what `save` wrote."""
        return cls(**load_arrays(path))

    def _rows(self, source_index: NDArray[np.integer]) -> NDArray[np.intp]:
        """Return the row of each source frame, -1 without an occluder."""
        place = np.searchsorted(self.frames, source_index).clip(0, len(self.frames) - 1)
        return np.asarray(np.where(self.frames[place] == source_index, place, -1))

    def _area(self, row: int) -> NDArray[np.float32]:
        return np.asarray(self.faces_area[self.plate[row]] / np.float32(255))

    def _without(self, row: int, frame: YuvFrame) -> YuvFrame:
        """Lay the uncovered face over the lower face of a frame."""
        corners = np.array([[0, 0, 1], [0, CELLS, 1], [CELLS, 0, 1], [CELLS, CELLS, 1]]) @ self.places[row].T
        x, y = (int(side) for side in np.floor(corners.min(0)).astype(int) // 2 * 2)
        size = int(np.ceil((corners.max(0) - [x, y]).max())) // 2 * 2 + 2
        own, plate = cut(frame, x, y, size), int(self.plate[row])
        place = then(self.places[row], _shift(-x, -y))  # from cells to pixels of the cut
        moved = then(inverse(self.faces_from[plate]), place)
        half = then(then(inverse(_HALF), moved), _HALF)
        face = YuvFrame(
            _warp(self.faces_y[plate], moved, size),
            *(_warp(plane, half, size // 2) for plane in self.faces_uv[plate]),
        )
        mixed = _mix(own, face, self._spread(self._area(row), row, x, y, size))
        copy = YuvFrame(*(plane.copy() for plane in frame))
        paste_back(copy, Patch(x, y, mixed))
        return copy

    def _spread(self, cells: NDArray[np.float32], row: int, x: int, y: int, size: int) -> NDArray[np.float32]:
        """Enlarge (96, 96) weights to (size, size) pixels of a region; 0 outside the grid."""
        return _warp(cells, then(self.places[row], _shift(-x, -y)), size, cv2.BORDER_CONSTANT)


def _shift(x: float, y: float) -> Affine:
    return np.array([[1, 0, x], [0, 1, y]], np.float64)


def _warp(plane: NDArray[T], place: Affine, size: int, border: int = cv2.BORDER_REPLICATE) -> NDArray[T]:
    warped = cv2.warpAffine(plane, place, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(warped, plane.dtype)


def _mix(own: YuvFrame, over: YuvFrame, weight: NDArray[np.float32]) -> YuvFrame:
    """Lay one region over another by a (R, R) weight; untouched where it is 0."""
    half = cv2.resize(weight, (weight.shape[1] // 2, weight.shape[0] // 2), interpolation=cv2.INTER_AREA)
    pairs = zip(own, over, (weight, half, half), strict=True)
    return YuvFrame(*(np.rint(a + w * (b.astype(np.float32) - a)).astype(np.uint8) for a, b, w in pairs))
