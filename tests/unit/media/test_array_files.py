from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lipwright.media.array_files import load_array, load_arrays

NUM_READS = 1000


class Cycle:
    """Garbage whose end runs Python code, where the interpreter changes threads: in the middle of parsing, too."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        for _ in range(50):
            pass


@pytest.fixture
def restless_threads() -> Iterator[None]:
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(5)
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)


@pytest.mark.usefixtures("restless_threads")
def test_load_array_in_threads_at_other_depths(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.arange(12).reshape(3, 4))
    np.savez(tmp_path / "two.npz", left=np.arange(3), right=np.ones((2, 2), np.float32))

    def read(depth: int) -> None:
        if depth:
            read(depth - 1)
            return
        for _ in range(NUM_READS):
            Cycle()
            assert load_array(tmp_path / "one.npy").sum() == 66
            assert set(load_arrays(tmp_path / "two.npz")) == {"left", "right"}

    # Threads at one depth do not show the fault: it is a depth that does not fit.
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(read, (0, 7, 14)))


def test_load_array_other_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("no array")
    for read in (load_array, load_arrays):
        with pytest.raises(ValueError):
            read(tmp_path / "text.npy")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError):
        load_array(tmp_path / "objects.npy")
