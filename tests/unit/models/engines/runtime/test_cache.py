"""Values are found by content alone, and only so many are kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.engines.runtime.cache import LruCache, content_key


def test_content_key_covers_content_shape_and_dtype() -> None:
    array = np.arange(12, dtype=np.uint8)
    key = content_key(array)
    assert key == content_key(array.copy())
    assert key == content_key(np.arange(24, dtype=np.uint8)[:12])
    strided = np.stack([array, array], 1)[:, 0]
    assert key == content_key(strided)
    others: list[NDArray[Any]] = [
        array[::-1],
        array.reshape(3, 4),
        array.view(np.int8),
        array.view(np.uint16),
        array[:-1],
    ]
    assert key not in {content_key(other) for other in others}


def test_lru_cache_full_evicts_least_recently_used() -> None:
    cache: LruCache[str] = LruCache(2)
    cache.put(b"a", "A")
    cache.put(b"b", "B")
    assert cache.get(b"a") == "A"
    cache.put(b"c", "C")
    assert (cache.get(b"a"), cache.get(b"b"), cache.get(b"c")) == ("A", None, "C")
    assert len(cache) == 2
    none: LruCache[str] = LruCache(0)
    none.put(b"a", "A")
    assert none.get(b"a") is None


def test_lru_cache_get_or_compute_computes_once() -> None:
    made: list[bytes] = []
    cache: LruCache[int] = LruCache(2)

    def get(number: int) -> int:
        def make() -> int:
            made.append(bytes([number]))
            return 10 * number

        return cache.get_or_compute(bytes([number]), make)

    assert [get(number) for number in (1, 2, 1, 3, 1, 2)] == [10, 20, 10, 30, 10, 20]
    assert made == [b"\1", b"\2", b"\3", b"\2"]  # 2 had gone, 1 had been asked for since
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(get, [i % 5 for i in range(400)])) == [10 * (i % 5) for i in range(400)]
