"""Thread-safe loading of NumPy files, and records of arrays in them.

NumPy reads the header of a file with `ast.literal_eval`. In Python 3.11 before 3.11.8 and 3.12 before 3.12.2, two
threads that parse at the same time fail with `SystemError: AST constructor recursion depth mismatch` (CPython issue
106905), so a lock is held while a header is read. Tracebacks parse too: `lipwright/launch/service.py` turns that off in
the processes of the service.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_HEADER = threading.Lock()


def load_array(path: Path, mmap_mode: Literal["r", "r+"] | None = None) -> NDArray[Any]:
    """Return the array in an .npy file; `mmap_mode` maps it into memory instead of reading it.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not such a file.
    """
    with _HEADER:
        array: NDArray[Any] = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    return array


def load_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return arrays of an .npz file by their names; `names` None: all of them.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not such a file.
        KeyError: There is no array of that name.
    """
    with _HEADER, np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in names or stored.files}


def save_arrays(path: Path, record: Any, save: Callable[..., None] = np.savez) -> None:
    """Write the fields of a named tuple or dataclass, except those that are None, to an .npz file."""
    names = getattr(record, "_fields", None) or [field.name for field in fields(record)]
    arrays = {name: value for name in names if (value := getattr(record, name)) is not None}
    with path.open("wb") as file:
        save(file, **arrays)
