"""Closures of the lips in WAV files."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from lipwright.media.phones import read_closures

PHONES = [["", 0, 0.1], ["b", 0.1, 0.15], ["\u02c8\u0252", 0.15, 0.3], ["b", 0.3, 0.36], ["p\u02b0", 0.4, 0.5]]


def wav_with_phones(content: bytes, chunks: bytes = b"") -> bytes:
    """A WAV file with a chunk `phon` before others."""
    content += b" " * (len(content) % 2)
    body = b"WAVE" + struct.pack("<4sI", b"phon", len(content)) + content + chunks
    return struct.pack("<4sI", b"RIFF", len(body)) + body


@pytest.mark.parametrize(
    ("content", "closures"),
    [
        (wav_with_phones(json.dumps(PHONES).encode()), ((0.1, 0.15), (0.3, 0.36), (0.4, 0.5))),
        (wav_with_phones(b'[["m", 2, 2.1], ["b", 1, 1.1]]'), ((1, 1.1), (2, 2.1))),
        (wav_with_phones(b'[["m", "now", 1]]'), ()),
        (wav_with_phones(b'[["m", NaN, 1]]'), ()),
        (wav_with_phones(b"[").replace(b"phon", b"LIST"), ()),
        (b"RIFF....WAVEfmt \xff\xff\xff\xff", ()),
        (b"fLaC" + bytes(99), ()),
        (b"", ()),
    ],
)
def test_read_closures_gives_bilabials_of_wav_files(
    tmp_path: Path, content: bytes, closures: tuple[tuple[float, float], ...]
) -> None:
    (tmp_path / "a").write_bytes(content)
    assert read_closures(tmp_path / "a") == closures
