"""What was computed before, found again by what it was computed from."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value")

_DIGEST_BYTES = 16


class ContentCache(Generic[Value]):
    """Keeps the values of the latest inputs; any number of threads may ask.

    The key is the content of the input and nothing else: a value from here is the one that would be computed, so what
    was asked before changes no byte of an answer.

    Args:
        max_values: The value that was unused for longest gives way beyond that; 0 keeps nothing.
    """

    def __init__(self, max_values: int) -> None:
        self._max_values = max_values
        self._values: OrderedDict[bytes, Value] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    @staticmethod
    def key(array: NDArray[np.generic]) -> bytes:
        """Return the digest of an array's bytes, shape and type."""
        digest = hashlib.blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=_DIGEST_BYTES)
        digest.update(np.ascontiguousarray(array).data)
        return digest.digest()

    def get(self, key: bytes) -> Value | None:
        """Return the value of a key, None if it is not kept."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: bytes, value: Value) -> None:
        """Keep a value."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._max_values:
                self._values.popitem(last=False)
