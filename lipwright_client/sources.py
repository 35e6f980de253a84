"""What callers give as a file: a path, bytes, an open file, or a URL that the service fetches."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO, Any, Protocol, TypeAlias

from lipwright_client.errors import UploadError


class Readable(Protocol):
    """An open file, or whatever reads like one."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; none at the end."""


Content: TypeAlias = bytes | bytearray | memoryview | Readable
Source: TypeAlias = str | os.PathLike[str] | Content | tuple[str, Content]
"""A path; a URL (http, https, data), which the service reads itself; bytes or a file, also as (name, content)."""


@dataclass(frozen=True)
class Upload:
    """One file of a request.

    Attributes:
        name: What the service is told that it is called.
        source: A path, bytes, or an open file. An open file is sent from its start if it can be moved there.
    """

    name: str
    source: os.PathLike[str] | bytes | Readable

    @property
    def is_repeatable(self) -> bool:
        """Whether a broken request can be repeated."""
        return not _is_unseekable(self.source)

    @contextlib.contextmanager
    def opened(self) -> Iterator[IO[bytes] | bytes | Readable]:
        """What httpx sends: streamed, but for bytes that are in memory anyway."""
        if isinstance(self.source, bytes):
            yield self.source
        elif isinstance(self.source, os.PathLike):
            with open(self.source, "rb") as file:
                yield file
        else:
            yield _UnseekableReader(self.source) if _is_unseekable(self.source) else self.source


def is_url(source: Any) -> bool:
    """Whether the service is to read the source itself."""
    return isinstance(source, str) and ("://" in source or source.startswith("data:"))


def upload_of(source: Source, field: str) -> Upload:
    """The upload that `source` means.

    Args:
        source: Anything but a URL.
        field: What the source is for; names an upload that has no other name.

    Raises:
        UploadError: There is no such file, or a file was opened as text.
    """
    if isinstance(source, tuple):
        return Upload(source[0], _content(source[1], field))
    if isinstance(source, str | os.PathLike):
        path = PurePath(source)
        if not os.path.isfile(path):
            raise UploadError(f"{field}: expected a file, a URL, bytes or an open file; there is no file {path}.")
        return Upload(path.name, path)
    label = getattr(source, "name", None)
    return Upload(PurePath(label).name if isinstance(label, str) and label else field, _content(source, field))


def _content(content: Any, field: str) -> bytes | Readable:
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    if isinstance(content, io.TextIOBase):
        raise UploadError(f"{field}: expected a file opened with mode 'rb', found one opened as text.")
    if not callable(getattr(content, "read", None)):
        kind = type(content).__name__
        raise UploadError(f"{field}: expected a path, a URL, bytes or an open file, found {kind}.")
    readable: Readable = content
    return readable


def _is_unseekable(source: Any) -> bool:
    if isinstance(source, bytes | os.PathLike):
        return False
    seekable = getattr(source, "seekable", None)
    return not (callable(seekable) and seekable())


class _UnseekableReader:
    """A pipe without its descriptor, whose size of 0 httpx would believe."""

    def __init__(self, source: Readable) -> None:
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        return self._source.read(size)
