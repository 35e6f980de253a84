"""What is written for SQLite, in PostgreSQL's words."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

_WORDS: Final = (
    (re.compile(r"\) STRICT(, WITHOUT ROWID)?"), ")"),
    (re.compile(r"\bINTEGER PRIMARY KEY AUTOINCREMENT\b"), "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
    (re.compile(r"\bINTEGER\b"), "BIGINT"),
    (re.compile(r"\bREAL\b"), "DOUBLE PRECISION"),
    (re.compile(r"\bTEXT\b"), 'TEXT COLLATE "C"'),  # sorted by its bytes, as SQLite does, whatever the locale is
)
_ARGUMENT: Final = re.compile(r"\?(\d+)")


def definition(step: str) -> str:
    """One step of `storage.schema`."""
    for word, other in _WORDS:
        step = word.sub(other, step)
    return step


@cache
def statement(text: str) -> str:
    """One statement of the tables: `?1` becomes `$1`."""
    return _ARGUMENT.sub(r"$\1", text)


def argument(value: object) -> object:
    """One argument. PostgreSQL has no NUL in its texts: a replacement stands for each, so that it is found nowhere."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value
