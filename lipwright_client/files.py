"""Files that are sent (a path, bytes, an open file, or a URL that the service downloads) and saved."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Any, Protocol, TypeAlias
from uuid import uuid4

from lipwright_client.errors import UploadError


class Readable(Protocol):
    """An object with a `read` method."""

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes; empty at the end."""


Content: TypeAlias = bytes | bytearray | memoryview | Readable
Source: TypeAlias = str | os.PathLike[str] | Content | tuple[str, Content]
"""A path, a URL (http, https, data), bytes, an open file, or (name, content)."""


@dataclass(frozen=True)
class Upload:
    """A file to upload.

    Attributes:
        name: File name sent to the service.
        source: A path, bytes, or an open file. A seekable file is sent from its start.
    """

    name: str
    source: os.PathLike[str] | bytes | Readable

    @property
    def is_repeatable(self) -> bool:
        """Whether the request can be retried."""
        return not _is_unseekable(self.source)

    @contextlib.contextmanager
    def opened(self) -> Iterator[IO[bytes] | bytes | Readable]:
        """Yield the content for httpx; files are streamed."""
        if isinstance(self.source, bytes):
            yield self.source
        elif isinstance(self.source, os.PathLike):
            with open(self.source, "rb") as file:
                yield file
        else:
            yield _UnseekableReader(self.source) if _is_unseekable(self.source) else self.source


def is_url(source: object) -> bool:
    """Return whether the source is a URL."""
    return isinstance(source, str) and ("://" in source or source.startswith("data:"))


def upload_of(source: Source, field: str) -> Upload:
    """Return the upload for `source`.

    Args:
        source: Any source but a URL.
        field: Name of the form field; used as the file name if there is no other.

    Raises:
        UploadError: The file does not exist or was opened in text mode.
    """
    if isinstance(source, tuple):
        return Upload(source[0], _content(source[1], field))
    if isinstance(source, str | os.PathLike):
        path = PurePath(source)
        if not os.path.isfile(path):
            raise UploadError(f"{field}: there is no file {path}.")
        return Upload(path.name, path)
    label = getattr(source, "name", None)
    return Upload(PurePath(label).name if isinstance(label, str) and label else field, _content(source, field))


def _content(content: Any, field: str) -> bytes | Readable:
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    if isinstance(content, io.TextIOBase):
        raise UploadError(f"{field}: the file is open in text mode. Open it with mode 'rb'.")
    if not callable(getattr(content, "read", None)):
        kind = type(content).__name__
        raise UploadError(f"{field}: expected a path, a URL, bytes or an open file, found {kind}.")
    readable: Readable = content
    return readable


def _is_unseekable(source: object) -> bool:
    if isinstance(source, bytes | os.PathLike):
        return False
    seekable = getattr(source, "seekable", None)
    return not (callable(seekable) and seekable())


class _UnseekableReader:
    """Hides the file descriptor of a pipe, from which httpx would derive a size of 0."""

    def __init__(self, source: Readable) -> None:
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        return self._source.read(size)


class Writable(Protocol):
    """An object with a `write` method."""

    def write(self, piece: bytes, /) -> object:
        """Write all of `piece`."""


Target: TypeAlias = str | os.PathLike[str] | Writable


def suffix_of(out: Target | None) -> str | None:
    """Return the suffix of a path, such as `.mp4`; None if `out` is no path or has no suffix."""
    return PurePath(out).suffix or None if isinstance(out, str | os.PathLike) else None


def check_folder(out: Target | None) -> None:
    """Raise UploadError if `out` is a path in a folder that does not exist."""
    if isinstance(out, str | os.PathLike) and not Path(out).parent.is_dir():
        raise UploadError(f"out: the folder of {os.fspath(out)} does not exist.")


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
