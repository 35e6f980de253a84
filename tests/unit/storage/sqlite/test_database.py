"""The file under the tables: noticed when it goes, and refused in one line when it cannot be used."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lipwright.errors import ConfigError, TableLostError, TableUnreachableError
from lipwright.storage.sqlite.database import Database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite3"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(path)
    yield database
    database.close()


def change(database: Database) -> None:
    with database.transaction():
        database.execute("UPDATE writer SET generation = generation")


@pytest.mark.parametrize("loss", ["deleted", "replaced"])
def test_write_to_a_deleted_database_fails(database: Database, path: Path, loss: str) -> None:
    database.claim()
    change(database)
    copy = Path(shutil.copy(path, path.with_name("copy")))
    path.unlink()
    if loss == "replaced":
        copy.rename(path)
    with pytest.raises(TableLostError, match="file of the job table was (deleted|replaced)"):
        change(database)
    with pytest.raises(TableLostError):
        database.check_claim()
    assert len(database.query("SELECT * FROM writer")) == 1, "what is there can still be read"


def _add(database: Database, value: str) -> None:
    with database.transaction():
        database.insert("secrets", {"name": value, "value": value})


def test_database_moved_away_and_back_accepts_writes(database: Database, path: Path) -> None:
    path.rename(path.with_name("old"))
    with pytest.raises(TableLostError, match="file of the job table was (deleted|replaced)"):
        change(database)
    path.with_name("old").rename(path)
    change(database)
    os.utime(path)
    change(database)


def _sql(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)


def _zero(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:8192] + bytes(8192) + content[16384:])


def _other_columns(path: Path) -> None:
    path.unlink()
    _sql(path, "CREATE TABLE jobs (a TEXT)")


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "no database": lambda path: path.write_bytes(b"this is no database at all " * 100),
    "zeroed pages": _zero,
    "cut": lambda path: os.truncate(path, 10_000),
    "other columns": _other_columns,
    "newer": lambda path: _sql(path, "PRAGMA user_version = 9999"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_file_that_is_no_database_is_refused_in_one_line(path: Path, damage: str) -> None:
    with closing(Database(path)) as database:
        database.check_pages()
        database.claim()
        database.check_pages()
    DAMAGES[damage](path)
    message = r"jobs\.sqlite3: [Ee]xpected .* (found|got)"
    with pytest.raises(ConfigError, match=message) as caught, closing(Database(path)) as database:
        database.check_pages()
    assert "\n" not in str(caught.value)


def test_lock_of_another_program_delays_only_writes(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lipwright.storage.sqlite.database._LOCK_WAIT_S", 2.0)
    database._set_lock_wait(2.0)
    _add(database, "a")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for at_least_s, below_s in ((1.6, 20.0), (0.0, 1.6)):  # only the first change waits
        started = time.monotonic()
        with pytest.raises(TableUnreachableError, match="Another program has locked the job table, jobs.sqlite3"):
            _add(database, "b")
        assert at_least_s < time.monotonic() - started < below_s
        assert [row["value"] for row in database.query("SELECT value FROM secrets")] == ["a"]
    other.close()
    _add(database, "b")


def test_transaction_beyond_file_size_limit_is_storage_full(tmp_path: Path) -> None:
    """In a process of its own, whose files are limited as by `ulimit -f`."""
    script = """
import resource, sys
from lipwright.errors import StorageFullError
from pathlib import Path
from lipwright.storage.sqlite.database import Database

database = Database(Path(sys.argv[1]))
for limit in (20_000, resource.RLIM_INFINITY):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        database.claim()
        print("claimed")
    except StorageFullError as error:
        print(error)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "jobs.sqlite3")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["The disk of the job table cannot be written.", "claimed"]
