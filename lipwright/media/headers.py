"""Reads file headers: the media type, whatever the name, the EXIF orientation, and the text chunks of PNG files."""

from __future__ import annotations

import mmap
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Literal

from lipwright.errors import MediaLimitError

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


HEAD_BYTES: Final = 16
"""Number of bytes needed to detect the type."""
# Signature, its offset, and the media type.
_SIGNATURES: Final = (
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"GIF8", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
    (b"ftyp", 4, "video/mp4"),
    (b"\x1a\x45\xdf\xa3", 0, "video/webm"),
    (b"AVI ", 8, "video/avi"),
    (b"WAVE", 8, "audio/wav"),
    (b"ID3", 0, "audio/mpeg"),
    (b"\xff\xfb", 0, "audio/mpeg"),
    (b"fLaC", 0, "audio/flac"),
    (b"OggS", 0, "audio/ogg"),
)


def media_type_of(head: bytes) -> str:
    """Return the media type of a file by its first `HEAD_BYTES` bytes; `application/octet-stream` if it is unknown."""
    for signature, start, media_type in _SIGNATURES:
        if head[start : start + len(signature)] == signature:
            return media_type
    return "application/octet-stream"


def media_type_of_file(file: BinaryIO) -> str:
    """Return the media type of a file that is open at its start, and leave it there."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return media_type_of(head)


SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MAX_TEXT_BYTES: Final = 16 * 1024**2
"""Decompressed size. The largest in use are prompts of image generators, below a megabyte, and colour profiles."""
MAX_TEXTS: Final = 1000
"""FFmpeg compares the key of each text with all previous ones."""
_PACKED: Final = (b"zTXt", b"iCCP")


def check_texts(path: Path) -> None:
    """Raise MediaLimitError for a PNG with too many texts, or too large texts and colour profiles."""
    num_bytes = num_texts = 0
    with path.open("rb") as file:
        for kind, size in _chunks(file):
            if kind not in (b"tEXt", *_PACKED):
                continue
            num_texts += 1
            left = MAX_TEXT_BYTES - num_bytes
            num_bytes += size if kind == b"tEXt" or size > left else _unpacked_length(file.read(size), left)
            if num_bytes > MAX_TEXT_BYTES:
                raise MediaLimitError(
                    f"{path.name}: expected at most {MAX_TEXT_BYTES >> 20} MiB of texts beside a picture, found more."
                )
            if num_texts > MAX_TEXTS:
                raise MediaLimitError(f"{path.name}: expected at most {MAX_TEXTS} texts beside a picture, found more.")


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield (type, bytes of content) of each chunk, with the file positioned at its content; also of appended PNGs."""
    while file.read(len(SIGNATURE)) == SIGNATURE:
        kind = b""
        while kind != b"IEND" and len(head := file.read(8)) == 8:
            size, kind = int.from_bytes(head[:4], "big"), head[4:]
            after = file.tell() + size + 4  # the checksum
            yield kind, size
            file.seek(after)


def _unpacked_length(content: bytes, max_bytes: int) -> int:
    """Return the decompressed length of a text, or more than `max_bytes`; 0 if it cannot be decompressed."""
    name, _, packed = content.partition(b"\0")
    try:
        return len(name) + len(zlib.decompressobj().decompress(packed[1:], max_bytes + 1))
    except zlib.error:
        return 0
