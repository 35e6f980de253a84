"""Where a download goes: a file that is whole or not there, or an open file of the caller's."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, TypeAlias
from uuid import uuid4


class Writable(Protocol):
    """An open file, or whatever is written to like one."""

    def write(self, piece: bytes, /) -> object:
        """Take all of `piece`."""


Target: TypeAlias = str | os.PathLike[str] | Writable


@contextlib.contextmanager
def atomic_target(out: Target) -> Iterator[Writable]:
    """What to write to. A path is replaced when the block has ended well, and left as it was otherwise."""
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
