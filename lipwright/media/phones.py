"""Phones in WAV files: our voices write what they say when, as JSON in a chunk `phon` before the samples."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from pydantic import FiniteFloat, TypeAdapter, ValidationError

Closures = tuple[tuple[float, float], ...]
"""Start and end, in seconds, of the sounds for which lips close, in order."""

_PHONES: Final = TypeAdapter(list[tuple[str, FiniteFloat, FiniteFloat]])
MAX_CLOSURE_SECONDS: Final = 0.5
"""Longer closures end then."""
_MAX_BYTES: Final = 1 << 20
_BILABIAL: Final = ("m", "b", "p")
"""First characters of the bilabial nasals and plosives in IPA."""


def read_closures(path: Path) -> Closures:
    """Return the closures of a WAV file; none if the file has another format, no phones, or too many."""
    with path.open("rb") as file:
        if file.read(12)[::8] != b"RW":
            return ()
        while len(head := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", head)
            if name == b"phon":
                return () if size > _MAX_BYTES else parse_closures(file.read(size))
            file.seek(size + size % 2, 1)
    return ()


def parse_closures(phones: bytes) -> Closures:
    """Return the closures that the content of a chunk `phon` tells; none if it is malformed."""
    try:
        known = _PHONES.validate_json(phones)
    except ValidationError:
        return ()
    found = [times for phone, *times in known if phone.startswith(_BILABIAL)]
    ends = ((start, min(end, start + MAX_CLOSURE_SECONDS)) for start, end in found)
    return tuple(sorted((round(start, 3), round(end, 3)) for start, end in ends))


def closures_between(closures: Closures, start: float, stop: float) -> Closures:
    """Return the closures that begin in [start, stop), in seconds from `start`."""
    return tuple((first - start, last - start) for first, last in closures if start <= first < stop)
