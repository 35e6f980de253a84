"""What a PNG says beside its picture: FFmpeg unpacks all of it, however much that is, before the first pixel."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from errors import MediaLimitError

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MAX_TEXT_BYTES: Final = 16 * 1024**2
"""Unpacked. The largest texts in use are the prompts of picture generators, below a megabyte, and colour profiles."""
MAX_TEXTS: Final = 1000
"""FFmpeg compares the name of each text with those of all before it."""
_PACKED: Final = (b"zTXt", b"iCCP")


def check_texts(path: Path) -> None:
    """Refuse a PNG with too many texts, or texts and colour profiles that are too long once they are unpacked.

    Raises:
        MediaLimitError: It is one.
    """
    num_bytes = num_texts = 0
    with path.open("rb") as file:
        for kind, size in _chunks(file):
            if kind not in (b"tEXt", *_PACKED):
                continue
            num_texts += 1
            left = MAX_TEXT_BYTES - num_bytes
            num_bytes += size if kind == b"tEXt" or size > left else _unpacked(file.read(size), left)
            if num_bytes > MAX_TEXT_BYTES:
                raise MediaLimitError(
                    f"{path.name}: expected at most {MAX_TEXT_BYTES >> 20} MiB of texts beside a picture, found more."
                )
            if num_texts > MAX_TEXTS:
                raise MediaLimitError(f"{path.name}: expected at most {MAX_TEXTS} texts beside a picture, found more.")


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """(kind, bytes of content) of each chunk, the file standing at its content; also of pictures behind the first."""
    while file.read(len(SIGNATURE)) == SIGNATURE:
        kind = b""
        while kind != b"IEND" and len(head := file.read(8)) == 8:
            size, kind = int.from_bytes(head[:4], "big"), head[4:]
            after = file.tell() + size + 4  # the checksum
            yield kind, size
            file.seek(after)


def _unpacked(content: bytes, max_bytes: int) -> int:
    """Length of a packed text, or more than `max_bytes`; 0 of one that cannot be unpacked."""
    name, _, packed = content.partition(b"\0")
    try:
        return len(name) + len(zlib.decompressobj().decompress(packed[1:], max_bytes + 1))
    except zlib.error:
        return 0
