"""One fragmented MP4 from the streams of a live session before and after a reconnection."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from lipwright_client import LiveEvent

_TKHD_ID, _MDHD_TIMESCALE, _TFHD_ID, _TFDT_TIME = 12, 12, 4, 4  # offsets in version 0 of the boxes (ISO/IEC 14496-12)
_ROUNDING_SECONDS: Final = 0.001


class JoinedStream:
    """Joins streams. A stream whose time begins again is moved behind the one before; its equal head is left out.

    Attributes:
        seconds: Length so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._head, self._offset = b"", 0.0
        self._timescales: dict[int, int] = {}

    def media(self, event: LiveEvent) -> bytes:
        """Return what to write for an event."""
        if event.type == "session.stream":
            last, self._head = self._head, event.media
            self._timescales = dict(_timescales(event.media))
            return b"" if event.media == last else event.media
        if event.type != "session.fragment":
            return event.media
        start, duration = float(event.raw["start_seconds"]), float(event.raw["duration_seconds"])
        if self._offset + start < self.seconds - _ROUNDING_SECONDS:
            self._offset = self.seconds - start
        self.seconds = self._offset + start + duration
        return self._shift_times(event.media) if self._offset else event.media

    def _shift_times(self, media: bytes) -> bytes:
        """Return a fragment with its decode times moved."""
        moved = bytearray(media)
        for track in _contents(media, b"moof", b"traf"):
            ((header, _),) = _contents(media, b"tfhd", within=track)
            ((time, _),) = _contents(media, b"tfdt", within=track)
            (track_id,) = struct.unpack_from(">I", media, header + _TFHD_ID)
            layout = ">Q" if media[time] else ">I"
            (ticks,) = struct.unpack_from(layout, media, time + _TFDT_TIME)
            ticks += round(self._offset * self._timescales[track_id])
            struct.pack_into(layout, moved, time + _TFDT_TIME, ticks)
        return bytes(moved)


def _timescales(head: bytes) -> Iterator[tuple[int, int]]:
    """Yield the ID and the ticks per second of each track."""
    for track in _contents(head, b"moov", b"trak"):
        ((header, _),) = _contents(head, b"tkhd", within=track)
        ((media, _),) = _contents(head, b"mdia", b"mdhd", within=track)
        yield (
            struct.unpack_from(">I", head, header + _TKHD_ID)[0],
            struct.unpack_from(">I", head, media + _MDHD_TIMESCALE)[0],
        )


def _contents(data: bytes, *path: bytes, within: tuple[int, int] | None = None) -> Iterator[tuple[int, int]]:
    """Yield the start and end of the content of each box with a path of types."""
    start, end = within or (0, len(data))
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if kind == path[0]:
            content = start + 8, start + size
            yield from _contents(data, *path[1:], within=content) if path[1:] else (content,)
        start += max(size, 8)
