"""The file under the tables: noticed when it goes, and refused in one line when it cannot be used."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from errors import ConfigError, TableLostError
from storage.sqlite.database import Database, identity_of


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


LOSSES: dict[str, Callable[[Path], Any]] = {
    "deleted": lambda path: path.unlink(),
    "moved away": lambda path: path.rename(path.with_name("old")),
    "replaced": lambda path: shutil.copy(path, path.with_name("copy")) and path.with_name("copy").replace(path),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_is_written_into_a_file_that_nobody_finds(database: Database, path: Path, loss: str) -> None:
    database.claim()
    change(database)
    LOSSES[loss](path)
    with pytest.raises(TableLostError, match="expected the file that was opened, found (that it|another)"):
        change(database)
    with pytest.raises(TableLostError):
        database.check_claim()
    assert len(database.query("SELECT * FROM writer")) == 1, "what is there can still be read"


def test_a_table_that_lies_where_it_lay_goes_on(database: Database, path: Path) -> None:
    path.rename(path.with_name("old"))
    with pytest.raises(TableLostError):
        change(database)
    path.with_name("old").rename(path)
    change(database)
    os.utime(path)
    change(database)


def test_a_file_is_told_from_another(path: Path) -> None:
    assert identity_of(path) is None
    path.write_bytes(b"a")
    before = identity_of(path)
    path.write_bytes(b"b")
    assert identity_of(path) == before is not None
    path.with_name("other").write_bytes(b"b")
    path.with_name("other").replace(path)
    assert identity_of(path) != before


def _overwrite(path: Path, start: int, content: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[start : start + len(content)] = content
    path.write_bytes(whole)


def _other_columns(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE jobs (a TEXT)")


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "no database": lambda path: path.write_bytes(b"this is no database at all " * 100),
    "zeroed pages": lambda path: _overwrite(path, 8192, bytes(8192)),
    "cut": lambda path: os.truncate(path, 10_000),
    "other columns": _other_columns,
    "newer": lambda path: _set_version(path, 9999),
}


def _set_version(path: Path, version: int) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_no_table_is_refused_in_one_line(path: Path, damage: str) -> None:
    Database(path).close()
    DAMAGES[damage](path)
    with pytest.raises(ConfigError, match=r"jobs\.sqlite3: [Ee]xpected .* (found|got)") as caught:  # noqa: PT012
        database = Database(path)
        try:
            database.check_pages()
        finally:
            database.close()
    assert "\n" not in str(caught.value)


def test_a_whole_table_passes(database: Database) -> None:
    database.check_pages()
    database.claim()
    database.check_pages()
