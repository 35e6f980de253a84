"""Streaming parser of JSON bodies with files in base64 (RFC 4648, RFC 2397), which are written to disk as they arrive.

The body is never held in memory as a whole. Everything but the files must be small.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Container
from typing import Any, Final

from lipwright.api.forms.form_parts import check_num_files
from lipwright.errors import InputError, MediaError, MediaLimitError, OptionError
from lipwright.jobs.model.base import UploadedFile
from lipwright.storage.uploads import UploadTarget, UploadWriter

MAX_HEAD_BYTES: Final = 1024
"""Maximum length of a data URL before its comma."""
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")  # RFC 4648, section 5
_SPACES: Final = b" \t\r\n"  # MIME breaks lines after 76 characters


class Base64File:
    """An `UploadWriter` for base64 text. End it with `finish` or `discard`."""

    def __init__(self, name: str, writer: UploadWriter, max_bytes: int) -> None:
        """Write to `writer`; `name` is the form field, for error messages."""
        self._name = name
        self._max_bytes = max_bytes
        self._head: bytearray | None = bytearray()
        self._rest = b""
        self._is_padded = False
        self._writer = writer
        self.num_bytes = 0

    def write(self, text: bytes | memoryview) -> None:
        """Write the next chunk of text, of any length. Blocking.

        Raises:
            InputError: The text is not base64.
            MediaLimitError: The file is too large.
        """
        text = bytes(text)
        if self._head is not None:
            self._head += text
            text = self._content(self._head)
        text = self._rest + text.translate(_URL_SAFE, _SPACES)
        whole = len(text) - len(text) % 4
        self._rest = text[whole:]
        self._decode(text[:whole])

    def finish(self) -> UploadedFile:
        """Complete the file; padding may be missing. Blocking.

        Raises:
            InputError: The text is truncated.
            MediaError: The file is empty.
        """
        if self._head is not None:
            raise self._wrong("a data URL without a comma")
        self._decode(self._rest + b"=" * (-len(self._rest) % 4))
        if not self.num_bytes:
            raise MediaError(f"{self._name}: the file is empty.")
        return self._writer.finish()

    def discard(self) -> None:
        """Delete the file, if it still exists."""
        self._writer.discard()

    def _content(self, head: bytearray) -> bytes:
        """Return the base64 part of the first chunks; empty until the header is complete."""
        if not b"data:".startswith(head[:5].lower()):
            self._head = None
            return bytes(head)
        media_type, comma, content = bytes(head).partition(b",")
        if not comma:
            if len(head) > MAX_HEAD_BYTES:
                raise self._wrong("a data URL without a comma")
            return b""
        if not media_type.lower().rstrip().endswith(b";base64"):
            raise self._wrong("a data URL that is not base64")
        self._head = None
        return content

    def _decode(self, text: bytes) -> None:
        if not text:
            return
        if self._is_padded:
            raise self._wrong("something after its end")
        try:
            piece = binascii.a2b_base64(text, strict_mode=True)
        except binascii.Error:
            raise self._wrong("other text") from None
        self._is_padded = text.endswith(b"=")
        self.num_bytes += len(piece)
        if self.num_bytes > self._max_bytes:
            raise MediaLimitError(f"{self._name}: the file has more than {self._max_bytes} bytes.")
        self._writer.write(piece)

    def _wrong(self, found: str) -> InputError:
        return InputError(f"{self._name}: expected a file, a URL, a data URL or base64, found {found}.")


_MAX_URL_BYTES: Final = 4096  # longer text in a file field is the file itself
_MIN_PLAIN_CHARS: Final = 100  # shorter base64 cannot be media: treated as a name
_MARK: Final = re.compile(rb'["{}\[\],:]')
_IN_STRING: Final = re.compile(rb'["\\]')
_OPEN_ESCAPE: Final = re.compile(rb"\\(u[0-9a-fA-F]{0,3})?\Z")


class JsonBody:
    """Parses one JSON object incrementally. `feed` and `finish` block on the disk.

    Args:
        file_fields: Names of file fields.
        files: Upload target.
        max_file_bytes: Maximum size of a file.
        max_small_bytes: Maximum size of everything else.
    """

    def __init__(
        self, file_fields: Container[str], files: UploadTarget, max_file_bytes: int, max_small_bytes: int = 65536
    ) -> None:
        self._file_fields = file_fields
        self._files = files
        self._max_file_bytes, self._max_small_bytes = max_file_bytes, max_small_bytes
        self._small = bytearray()  # the body without its files
        self._depth = 0
        self._is_value = False  # whether the next string at top level is a value
        self._key = ""
        self._string: _String | None = None
        self._made: dict[str, Base64File] = {}

    @property
    def num_file_bytes(self) -> int:
        """Total size of the files so far, in bytes."""
        return sum(file.num_bytes for file in self._made.values())

    def feed(self, piece: bytes) -> None:
        """Parse the next chunk of the body.

        Raises:
            InputError: The JSON is too large, or a file is not valid base64.
            OptionError: A file is sent twice.
            MediaLimitError: A file is too large.
        """
        at = 0
        while at < len(piece):
            at = self._outside(piece, at) if self._string is None else self._inside(self._string, piece, at)
        if len(self._small) > self._max_small_bytes:
            raise InputError(f"The JSON without its files has more than {self._max_small_bytes} bytes.")

    def finish(self) -> tuple[dict[str, Any], dict[str, UploadedFile]]:
        """Return the fields, with files as empty strings, and the files.

        Raises:
            InputError: The body is not a JSON object.
            MediaError: A file is empty.
        """
        try:
            fields = json.loads(self._small)
        except (ValueError, RecursionError) as error:
            raise InputError("The body is not valid JSON.") from error
        if not isinstance(fields, dict):
            raise InputError("The body must be a JSON object.")
        return fields, {name: file.finish() for name, file in self._made.items()}

    def discard(self) -> None:
        """Delete the files of this body."""
        for file in list(self._made.values()):
            file.discard()

    def _outside(self, piece: bytes, at: int) -> int:
        """Parse up to the next string; return its start."""
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
        """Parse the rest of a string; return its end."""
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
        """Turn the string received so far into a file."""
        text = bytes(self._small[string.begin :])
        if self._key in self._made:
            raise OptionError(f"{self._key}: sent more than once.")
        check_num_files(len(self._made) + 1)
        writer = self._files.new_upload(self._key)
        string.file = self._made[self._key] = Base64File(self._key, writer, self._max_file_bytes)
        del self._small[string.begin :]
        string.file.write(string.unescaped(text))


class _String:
    """A partially received string.

    Attributes:
        begin: Start of its text in the buffered JSON.
        may_be_file: Whether it is the value of a file field.
        is_escaped: Whether the previous chunk ended in a backslash.
        file: Target of its data once it is known to be a file.
    """

    def __init__(self, begin: int, may_be_file: bool) -> None:
        self.begin = begin
        self.may_be_file = may_be_file
        self.is_escaped = False
        self.file: Base64File | None = None
        self._tail = b""

    def unescaped(self, text: bytes) -> bytes:
        """Return the next chunk without JSON escapes, as ASCII."""
        text = self._tail + text
        self._tail = b""
        if b"\\" not in text:
            return text
        if (cut := _OPEN_ESCAPE.search(text)) is not None:
            text, self._tail = text[: cut.start()], text[cut.start() :]
        return _text_of(text).encode("ascii", "replace")

    def check_end(self) -> None:
        """Reject an incomplete escape at the end of the string."""
        if self._tail:
            raise InputError("The body is not valid JSON.")


def _is_file(text: bytes) -> bool:
    """Return whether a short text is a file rather than a URL or a name."""
    if b"://" in text.replace(b"\\/", b"/"):
        return False
    return len(text) >= _MIN_PLAIN_CHARS or text[:5].lower() == b"data:"


def _text_of(text: bytes) -> str:
    try:
        return str(json.loads(b'"' + text + b'"'))
    except ValueError:
        raise InputError("The body is not valid JSON.") from None
