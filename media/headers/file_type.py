"""Detects the media type of a file by its first bytes; file names are not trusted."""

from __future__ import annotations

from typing import BinaryIO, Final

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
