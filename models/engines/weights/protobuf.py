"""Protocol buffers taken apart where they lie: no copy of a file, no schema, nothing but integers and spans.

The wire format: protobuf.dev, "Encoding".
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from errors import WeightsError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES: Final = 10
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}
_MAX_TEXT_BYTES: Final = 4096


Buffer = bytes | mmap.mmap


@dataclass(frozen=True)
class Span:
    """Bytes [start, stop) of a buffer: a message, a text or packed numbers, whatever its reader takes it for."""

    buffer: Buffer
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def fields(self) -> Iterator[tuple[int, int | Span]]:
        """Go through a message: numbers of fields, with an integer for a varint and a span for all else.

        Raises:
            WeightsError: It is no message.
        """
        place = self.start
        while place < self.stop:
            tag, place = self._varint(place)
            number, wire = tag >> 3, tag & 7
            if wire == _VARINT:
                value, place = self._varint(place)
                yield number, value
                continue
            if wire == _BYTES:
                length, place = self._varint(place)
            else:
                length = _FIXED.get(wire, -1)
            if number == 0 or length < 0 or place + length > self.stop:
                raise WeightsError("expected an ONNX file, found protocol buffers that are truncated or something else")
            yield number, Span(self.buffer, place, place + length)
            place += length

    def messages(self, wanted: int) -> Iterator[Span]:
        """Go through the spans of the fields of that number."""
        return (value for number, value in self.fields() if number == wanted and isinstance(value, Span))

    def integers(self, wanted: int) -> Iterator[int]:
        """Go through the signed 64-bit integers of that field, packed or not."""
        for number, value in self.fields():
            if number == wanted:
                yield from (_signed(each) for each in ([value] if isinstance(value, int) else value._packed()))

    def text(self, wanted: int) -> str:
        """Return the last text of that field, "" without one.

        Raises:
            WeightsError: It is too long, or not UTF-8.
        """
        found = list(self.messages(wanted))
        if not found:
            return ""
        span = found[-1]
        try:
            if len(span) <= _MAX_TEXT_BYTES:
                return bytes(self.buffer[span.start : span.stop]).decode()
        except UnicodeDecodeError:
            pass
        raise WeightsError(f"expected names of at most {_MAX_TEXT_BYTES} bytes of UTF-8, found {len(span)} bytes")

    def _packed(self) -> Iterator[int]:
        place = self.start
        while place < self.stop:
            value, place = self._varint(place)
            yield value

    def _varint(self, place: int) -> tuple[int, int]:
        """The number that begins at `place`, and where it ends."""
        value = 0
        for number in range(min(_MAX_VARINT_BYTES, self.stop - place)):
            byte = self.buffer[place + number]
            value |= (byte & 0x7F) << (7 * number)
            if byte < 0x80:
                return value & (2**64 - 1), place + number + 1
        raise WeightsError("expected an ONNX file, found protocol buffers that are truncated or something else")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
