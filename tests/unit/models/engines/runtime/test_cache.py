"""Values are found by content alone, and only so many are kept."""

from __future__ import annotations

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


def test_lru_cache_of_size_0_keeps_nothing() -> None:
    cache: LruCache[str] = LruCache(0)
    cache.put(b"a", "A")
    assert cache.get(b"a") is None
