"""Reads the EXIF orientation of a picture, of which PyAV exposes the rotation but not the mirroring."""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import Final, Literal

_TIFF: Final = re.compile(rb"(?:Exif\0\0|eXIf|EXIF....)(?:Exif\0\0)?(II\*\0|MM\0\*)", re.DOTALL)
"""The beginning of EXIF in JPEG (APP1), PNG (eXIf) and WebP (EXIF and its size)."""
_ORIENTATION: Final = 0x0112
_UPRIGHT: Final = {
    1: (0, False),
    2: (0, True),
    3: (180, False),
    4: (180, True),
    5: (270, True),
    6: (270, False),
    7: (90, True),
    8: (90, False),
}
"""EXIF 2.32, 4.6.4: orientation -> (degrees counter-clockwise, mirrored left to right afterwards)."""


def exif_orientation(path: Path) -> tuple[int, bool]:
    """Return how a JPEG, PNG or WebP becomes upright: degrees counter-clockwise, then whether it is mirrored."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if (found := _TIFF.search(content)) is None:
            return _UPRIGHT[1]
        order: Literal["little", "big"] = "little" if found[1].startswith(b"II") else "big"
        return _UPRIGHT.get(_orientation(content, found.start(1), order), _UPRIGHT[1])


def _orientation(content: mmap.mmap, start: int, order: Literal["little", "big"]) -> int:
    """The orientation in the first image file directory of the TIFF structure at `start`; 0 if there is none."""

    def number(at: int, num_bytes: int) -> int:
        return int.from_bytes(content[at : at + num_bytes], order)

    directory = start + number(start + 4, 4)
    for entry in range(directory + 2, directory + 2 + 12 * number(directory, 2), 12):
        if number(entry, 2) == _ORIENTATION:
            return number(entry + 8, 2)
    return 0
