"""Pictures of a live session as a byte stream (ITU-T H.264, annex B)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from media.live.mp4_boxes import ParameterSets

_START: Final = b"\0\0\0\1"


def annex_b(frame: bytes, headers: ParameterSets | None = None) -> bytes:
    """Return one frame as a byte stream.

    Args:
        frame: NAL units, each behind its length in four bytes.
        headers: Parameter sets to put before it, for a keyframe.
    """
    sets = () if headers is None else (headers.sps, headers.pps)
    return b"".join(_START + unit for unit in (*sets, *_units(frame)))


def _units(frame: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(frame):
        size = int.from_bytes(frame[place : place + 4], "big")
        yield frame[place + 4 : place + 4 + size]
        place += 4 + size
