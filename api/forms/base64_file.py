"""Incremental decoder of base64 and data URLs (RFC 4648, RFC 2397)."""

from __future__ import annotations

import binascii
from typing import Final

from errors import InputError, MediaError, MediaLimitError
from jobs.model.files import UploadedFile
from storage.uploads import UploadWriter

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
