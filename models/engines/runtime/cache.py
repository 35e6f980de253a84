"""A thread-safe LRU cache, and keys by content."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value")

_DIGEST_BYTES: Final = 16


def content_key(array: NDArray[np.generic]) -> bytes:
    """Return the digest of an array's bytes, shape and type."""
    digest = hashlib.blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=_DIGEST_BYTES)
    digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


class LruCache(Generic[Value]):
    """Keeps the `max_values` most recently used results, each of which depends only on its key."""

    def __init__(self, max_values: int) -> None:
        self._max_values = max_values
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> Value | None:
        """Return the value of a key, None if it is not kept."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: Hashable, value: Value) -> None:
        """Keep a value."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._max_values:
                self._values.popitem(last=False)

    def get_or_compute(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """Return the value of a key; compute and keep it if it is not there.

        Two threads that ask for the same key at once may both compute it.
        """
        value = self.get(key)
        if value is None:
            value = compute()
            self.put(key, value)
        return value
