"""Files of a batch: local paths, and URLs that fsspec opens, such as s3://bucket/key."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import BinaryIO, cast
from uuid import uuid4

from errors import InputError

Location = Path | str
"""A path, or a URL with a scheme."""


def resolve(text: str | Path, folder: Path) -> Location:
    """Return a URL unchanged, and a path relative to `folder` as an absolute path."""
    return text if is_url(text) else (folder / text).resolve()


def is_url(location: Location) -> bool:
    """Return whether the location is a URL."""
    return "://" in str(location)


def file_name(location: Location) -> str:
    """Return the last part of the name."""
    return str(location).rstrip("/").rpartition("/")[2]


def open_location(location: Location) -> BinaryIO:
    """Open a file for reading; the caller closes it.

    Raises:
        InputError: The URL scheme is not supported.
        OSError: The file cannot be read.
    """
    if isinstance(location, Path):
        return location.open("rb")
    return cast(BinaryIO, _file_system(location).open(location, "rb"))


def exists(location: Location) -> bool:
    """Return whether the file exists; InputError if the URL scheme is not supported."""
    return location.is_file() if isinstance(location, Path) else bool(_file_system(location).exists(location))


def copy_atomic(source: Path, out: Location) -> None:
    """Copy a file so that `out` is never partially written.

    Raises:
        InputError: The URL scheme is not supported.
        OSError: The file cannot be written.
    """
    if not isinstance(out, Path):
        _file_system(out).put_file(str(source), out)  # object stores make an object visible when it is complete
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{uuid4().hex}.part")
    try:
        shutil.copyfile(source, partial)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _file_system(url: str):  # type: ignore[no-untyped-def]  # fsspec has no types
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)[0]
    except (ImportError, ValueError) as error:
        raise InputError(f"{url}: unsupported URL scheme: {error}") from error
