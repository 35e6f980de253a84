"""Targets of downloads: a path that is replaced atomically, or an open file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, TypeAlias
from uuid import uuid4


class Writable(Protocol):
    """An object with a `write` method."""

    def write(self, piece: bytes, /) -> object:
        """Write all of `piece`."""


Target: TypeAlias = str | os.PathLike[str] | Writable


@contextlib.contextmanager
def atomic_target(out: Target) -> Iterator[Writable]:
    """Yield a file to write to. A path is replaced if the block succeeds, and left unchanged otherwise."""
    if not isinstance(out, str | os.PathLike):
        yield out
        return
    path = Path(out)
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
