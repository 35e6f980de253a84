"""Limits on the text chunks of PNG files, all of which FFmpeg decompresses before it decodes the first pixel."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from errors import MediaLimitError

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
