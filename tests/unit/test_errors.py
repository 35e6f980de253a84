"""The error tree: every class crosses processes, and the drawing in the docstring is the tree."""

from __future__ import annotations

import inspect
import pickle
import re
from collections.abc import Iterator
from typing import Any

import pytest

from lipwright import errors
from lipwright.errors import LipwrightError

_OTHER = {"retry_after_s": 0.25, "num_bytes": 3, "was_retried": True}
"""Arguments of the constructors with a value that is no default."""


def error_classes(cls: type[LipwrightError] = LipwrightError) -> Iterator[type[LipwrightError]]:
    yield cls
    for child in cls.__subclasses__():
        if child.__module__ == "lipwright.errors":
            yield from error_classes(child)


def _drawn() -> dict[str, tuple[int, str, int]]:
    """Class name -> (status, code, depth) as drawn in the docstring of lipwright/errors.py."""
    row = re.compile(r"^([ │├└─]*)(\w+Error)(?: \(\w+\))?\s+(\d{3})\s+(\w+)", re.MULTILINE)
    rows = row.findall(errors.__doc__ or "")
    return {name: (int(status), code, (len(indent) - 4) // 4) for indent, name, status, code in rows}


def _named(cls: type[LipwrightError]) -> dict[str, Any]:
    """A value other than the default for every argument of a class but the message."""
    names = inspect.signature(cls.__init__).parameters
    return {name: value for name, value in _OTHER.items() if name in names}


@pytest.mark.parametrize("cls", list(error_classes()), ids=lambda cls: cls.__name__)
def test_error_survives_pickling(cls: type[LipwrightError]) -> None:
    error = cls("clip.mp4: expected a video, found text.", **_named(cls))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls and str(copy) == str(error)
    assert copy.args == error.args and vars(copy) == vars(error)
    for name, value in _named(cls).items():
        assert getattr(copy, name) == value
    assert (copy.status_code, copy.code, copy.retryable) == (cls.status_code, cls.code, cls.retryable)


def test_errors_docstring_draws_the_tree() -> None:
    depth = {cls: sum(issubclass(each, LipwrightError) for each in cls.__mro__) - 1 for cls in error_classes()}
    expected = {cls.__name__: (cls.status_code, cls.code, depth[cls]) for cls in error_classes()}
    assert _drawn() == expected
    assert len({cls.code for cls in error_classes()}) == len(expected)
    lines = [line for line in (errors.__doc__ or "").splitlines() if line.endswith("retryable")]
    drawn = {word for line in lines for word in line.split() if word.endswith("Error")}
    assert drawn == {cls.__name__ for cls in error_classes() if cls.retryable}


@pytest.mark.parametrize(
    ("defect", "words"),
    [
        (FileNotFoundError(2, "No such file", "/srv/jobs/speech.npy"), "FileNotFoundError: No such file: speech.npy"),
        (ValueError("cannot open '/srv/data/a.npz'"), "ValueError: cannot open 'a.npz'"),
        (KeyError("http://host/path and 3/4"), "KeyError: 'http://host/path and 3/4'"),
    ],
)
def test_redacted_unexpected_error_has_no_folders(defect: Exception, words: str) -> None:
    assert errors.redacted(defect) == words


def test_internal_error_missing_file_is_stored_file_lost() -> None:
    gone = errors.internal_error("Studio", FileNotFoundError(2, "No such file", "/srv/data/jobs/1/speech.npy"))
    assert gone.code == "stored_file_lost" and "/srv" not in str(gone)
    assert errors.internal_error("Studio", KeyError("a")).code == "internal"
