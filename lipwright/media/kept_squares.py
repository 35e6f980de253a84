"""Keeps squares of decoded frames in a temporary file, so that frames need not be decoded again for them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import IO, NamedTuple

import numpy as np

from lipwright.media.frame_source import FrameSource
from lipwright.media.yuv_frame import YuvFrame, cut


class Square(NamedTuple):
    """A square of a frame, in luma pixels, all even; it may extend beyond the frame."""

    x: int  # left
    y: int  # top
    size: int

    def contains(self, other: Square) -> bool:
        """Whether no pixel of the other square is outside this one."""
        right, down = other.x - self.x, other.y - self.y
        return min(right, down) >= 0 and max(right, down) + other.size <= self.size


class KeptSquares:
    """Squares of the frames of one source, one per frame. Not thread-safe.

    They are in a file without a name, which ends with this process. Squares beyond `max_bytes`, or for which the disk
    has no space, are not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._num_bytes = max_bytes, 0
        self._file: IO[bytes] | None = None
        self._kept: dict[int, tuple[Square, int]] = {}  # by frame: its square, and where it starts in the file

    def keep(self, index: int, frame: YuvFrame, square: Square) -> None:
        """Copy a square of a frame into the file."""
        num_bytes = _num_bytes(square)
        if self._num_bytes + num_bytes > self._max_bytes:
            return
        with suppress(OSError):
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  # until `close`
            planes = [plane.data for plane in cut(frame, *square)]
            if os.pwritev(self._file.fileno(), planes, self._num_bytes) == num_bytes:
                self._kept[index] = (square, self._num_bytes)
                self._num_bytes += num_bytes
                return
        self._max_bytes = 0

    def holds(self, index: int, square: Square) -> bool:
        """Whether `read` can return a square of a frame."""
        return index in self._kept and self._kept[index][0].contains(square)

    def read(self, index: int, square: Square) -> YuvFrame:
        """Return a square that `holds`, as `lipwright.media.yuv_frame.cut` would cut it from the frame."""
        assert self._file is not None
        kept, start = self._kept[index]
        data = np.empty(_num_bytes(kept), np.uint8)
        if os.preadv(self._file.fileno(), [data.data], start) != len(data):
            raise OSError(f"Expected {len(data)} bytes at {start} of a file of kept squares.")
        luma, half = kept.size**2, kept.size // 2
        chroma = data[luma:].reshape(2, half, half)
        planes = YuvFrame(data[:luma].reshape(kept.size, kept.size), chroma[0], chroma[1])
        return cut(planes, square.x - kept.x, square.y - kept.y, square.size)

    def close(self) -> None:
        """Delete the file."""
        if self._file is not None:
            self._file.close()


def _num_bytes(square: Square) -> int:
    return square.size**2 * 3 // 2


class SquareReader:
    """Reads the frames of a source, and squares of them, for which only frames without a kept square are decoded."""

    def __init__(self, frames: FrameSource, kept: KeptSquares | None = None) -> None:
        self._frames, self._kept = frames, kept or KeptSquares(0)

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        """Yield whole frames, see `FrameSource.read`."""
        return self._frames.read(indices)

    def squares(self, wanted: Sequence[tuple[int, Square]]) -> Iterator[YuvFrame]:
        """Yield a square of each frame index; outside the frame, its edge is repeated. Raises what `read` does."""
        decoded = self._frames.read([index for index, square in wanted if not self._kept.holds(index, square)])
        for index, square in wanted:
            is_kept = self._kept.holds(index, square)
            yield self._kept.read(index, square) if is_kept else cut(next(decoded), *square)

    def close(self) -> None:
        """Close the source."""
        self._frames.close()
