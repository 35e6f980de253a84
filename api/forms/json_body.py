"""JSON bodies with files in them: text that stands for a file goes to the disk while it comes, the rest is parsed.

The body is never held as a whole. What is not the text of a file has to be small.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any, Final

from api.forms.base64_file import Base64File
from errors import InputError, OptionError
from storage.records import UploadedFile
from storage.upload_target import UploadTarget

_MAX_SMALL_BYTES: Final = 65536
_MAX_URL_BYTES: Final = 4096  # longer text in the field of a file is the file itself
_MIN_PLAIN_CHARS: Final = 100  # shorter base64 is no sound and no picture: it is taken for a name
_MARK: Final = re.compile(rb'["{}\[\],:]')
_IN_STRING: Final = re.compile(rb'["\\]')
_OPEN_ESCAPE: Final = re.compile(rb"\\(u[0-9a-fA-F]{0,3})?\Z")


class JsonBody:
    """Reads one JSON object. Writes files as they come: `feed` and `finish` block on the disk.

    Args:
        file_fields: Names of the fields that may hold files.
        files: Where the files go.
        max_file_bytes: Bytes that each may have.
    """

    def __init__(self, file_fields: Collection[str], files: UploadTarget, max_file_bytes: int) -> None:
        self._file_fields = file_fields
        self._files = files
        self._max_file_bytes = max_file_bytes
        self._small = bytearray()  # the body, with nothing in place of the files
        self._depth = 0
        self._is_value = False  # whether the next string of the object itself is a value
        self._key = ""
        self._string: _String | None = None
        self._made: dict[str, Base64File] = {}

    @property
    def num_file_bytes(self) -> int:
        """Bytes of all files so far."""
        return sum(file.num_bytes for file in self._made.values())

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the body.

        Raises:
            InputError: It is too large or holds a file that is none.
            OptionError: A file comes twice.
            MediaLimitError: A file is too large.
        """
        at = 0
        while at < len(piece):
            at = self._outside(piece, at) if self._string is None else self._inside(self._string, piece, at)
        if len(self._small) > _MAX_SMALL_BYTES:
            raise InputError(f"Expected at most {_MAX_SMALL_BYTES} bytes of JSON beside the files.")

    def finish(self) -> tuple[dict[str, Any], dict[str, UploadedFile]]:
        """The object's fields, empty text in place of files, and the files.

        Raises:
            InputError: It is no JSON object.
            MediaError: A file is empty.
        """
        try:
            fields = json.loads(self._small)
        except (ValueError, RecursionError) as error:
            raise InputError("Expected JSON, got something else.") from error
        if not isinstance(fields, dict):
            raise InputError("Expected a JSON object, got another value.")
        return fields, {name: file.finish() for name, file in self._made.items()}

    def discard(self) -> None:
        """Remove every file of this body."""
        for file in list(self._made.values()):
            file.discard()

    def _outside(self, piece: bytes, at: int) -> int:
        """Take what stands between two strings; return where the next one begins."""
        for mark in _MARK.finditer(piece, at):
            match mark[0]:
                case b'"':
                    self._small += piece[at : mark.end()]
                    may_be_file = self._depth == 1 and self._is_value and self._key in self._file_fields
                    self._string = _String(len(self._small), may_be_file)
                    return mark.end()
                case b"{" | b"[":
                    self._depth += 1
                case b"}" | b"]":
                    self._depth -= 1
                case _ if self._depth == 1:
                    self._is_value = mark[0] == b":"
        self._small += piece[at:]
        return len(piece)

    def _inside(self, string: _String, piece: bytes, at: int) -> int:
        """Take what belongs to a string; return where it ends."""
        begin = at
        if string.is_escaped:
            string.is_escaped, at = False, at + 1
        while (mark := _IN_STRING.search(piece, at)) is not None:
            if mark[0] == b'"':
                self._take(string, piece[begin : mark.start()])
                self._end(string)
                self._small += b'"'
                self._string = None
                return mark.end()
            at = mark.end() + 1
            if at > len(piece):
                string.is_escaped = True
                break
        self._take(string, piece[begin:])
        return len(piece)

    def _take(self, string: _String, text: bytes) -> None:
        if string.file is None:
            self._small += text
            if string.may_be_file and len(self._small) - string.begin > _MAX_URL_BYTES:
                self._open(string)
            return
        string.file.write(string.unescaped(text))

    def _end(self, string: _String) -> None:
        text = bytes(self._small[string.begin :])
        if self._depth == 1 and not self._is_value:
            self._key = _text_of(text)
        elif string.may_be_file and string.file is None and _is_file(text):
            self._open(string)
        if string.file is not None:
            string.check_end()

    def _open(self, string: _String) -> None:
        """Make a file of what has come of a string so far."""
        text = bytes(self._small[string.begin :])
        if self._key in self._made:
            raise OptionError(f"{self._key}: expected once, got it twice.")
        writer = self._files.new_upload(self._key)
        string.file = self._made[self._key] = Base64File(self._key, writer, self._max_file_bytes)
        del self._small[string.begin :]
        string.file.write(string.unescaped(text))


class _String:
    """A string of the body on its way.

    Attributes:
        begin: Where its text begins in what is parsed.
        may_be_file: Whether it is the value of a file's field.
        is_escaped: Whether the piece before ended in a backslash.
        file: Where it goes once it is known to be a file.
    """

    def __init__(self, begin: int, may_be_file: bool) -> None:
        self.begin = begin
        self.may_be_file = may_be_file
        self.is_escaped = False
        self.file: Base64File | None = None
        self._tail = b""

    def unescaped(self, text: bytes) -> bytes:
        """The characters that the next piece of the string stands for, as ASCII."""
        text = self._tail + text
        self._tail = b""
        if b"\\" not in text:
            return text
        if (cut := _OPEN_ESCAPE.search(text)) is not None:
            text, self._tail = text[: cut.start()], text[cut.start() :]
        return _text_of(text).encode("ascii", "replace")

    def check_end(self) -> None:
        """Refuse an escape that ends with the string."""
        if self._tail:
            raise InputError("Expected JSON, got something else.")


def _is_file(text: bytes) -> bool:
    """Whether a short text is a file: neither a URL, nor a name, nor nothing."""
    if b"://" in text.replace(b"\\/", b"/"):
        return False
    return len(text) >= _MIN_PLAIN_CHARS or text[:5].lower() == b"data:"


def _text_of(text: bytes) -> str:
    try:
        return str(json.loads(b'"' + text + b'"'))
    except ValueError:
        raise InputError("Expected JSON, got something else.") from None
