import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

import numpy as np
import pytest

from lipwright.media.kept_squares import KeptSquares, Square, SquareReader
from lipwright.media.yuv_frame import YuvFrame, cut

AROUND = Square(-10, 20, 120)  # extends beyond the frame, as does
INSIDE = Square(-6, 30, 64)
ELSEWHERE = Square(60, 30, 64)  # partly outside of AROUND
NUM_BYTES = 120 * 120 * 3 // 2


def _frame(index: int) -> YuvFrame:
    rng = np.random.default_rng(index)
    return YuvFrame(*(rng.integers(0, 256, size, np.uint8) for size in ((128, 192), (64, 96), (64, 96))))


class _Decoded:
    """Frames, and which of them were read."""

    def __init__(self) -> None:
        self.indices = list[int]()

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        for index in indices:
            self.indices.append(index)
            yield _frame(index)

    def close(self) -> None:
        pass


def _read(kept: KeptSquares, wanted: Sequence[tuple[int, Square]]) -> list[int]:
    """Reads squares; returns the frames that were decoded for them."""
    source = _Decoded()
    with closing(kept):
        squares = list(SquareReader(source, kept).squares(wanted))
    for (index, square), planes in zip(wanted, squares, strict=True):
        for found, expected in zip(planes, cut(_frame(index), *square), strict=True):
            np.testing.assert_array_equal(found, expected)
    return source.indices


def test_square_reader_decodes_only_what_was_not_kept() -> None:
    kept = KeptSquares(10 * NUM_BYTES)
    for index in (0, 1, 3):
        kept.keep(index, _frame(index), AROUND)
    wanted = [(0, INSIDE), (1, ELSEWHERE), (2, INSIDE), (3, AROUND), (3, INSIDE)]
    assert _read(kept, wanted) == [1, 2]


def test_kept_squares_beyond_their_bytes_are_decoded() -> None:
    kept = KeptSquares(2 * NUM_BYTES)
    for index in range(3):
        kept.keep(index, _frame(index), AROUND)
    assert _read(kept, [(index, INSIDE) for index in range(3)]) == [2]


@pytest.mark.parametrize("is_error", [False, True])
def test_kept_squares_on_a_full_disk_are_decoded(monkeypatch: pytest.MonkeyPatch, is_error: bool) -> None:
    write = os.pwritev

    def full(file: int, buffers: Sequence[memoryview], offset: int) -> int:
        if offset < NUM_BYTES:
            return write(file, buffers, offset)
        if is_error:
            raise OSError(28, "No space left on device")
        return write(file, buffers[:1], offset)

    kept = KeptSquares(10 * NUM_BYTES)
    monkeypatch.setattr(os, "pwritev", full)
    for index in range(3):
        kept.keep(index, _frame(index), AROUND)
    assert _read(kept, [(index, INSIDE) for index in range(3)]) == [1, 2]
