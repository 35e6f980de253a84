"""An empty job table in a file."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from lipwright.storage.sqlite.database import Database


def new_database(path: Path) -> Database:
    """Open a job table; one that does not exist is copied, because to create it takes one transaction per version."""
    if not path.exists():
        path.write_bytes(_empty())
    return Database(path)


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.sqlite3"
        Database(path).close()
        return path.read_bytes()
