"""Texts of pictures, on real PNGs: the ordinary ones pass, those that unpack to gigabytes are refused unread."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from errors import MediaLimitError
from media.headers import MAX_TEXTS
from media.probe import probe_video
from tests.unit.media.bombs import write_text_picture
from tests.unit.media.clips import LIMITS, write_still


def _with(path: Path, chunks: bytes) -> Path:
    """A good picture with these chunks before its pixels."""
    still = write_still(path, "png", "rgb24").read_bytes()
    path.write_bytes(still[:33] + chunks + still[33:])
    return path


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _packed(kind: bytes, num_bytes: int) -> bytes:
    packer = zlib.compressobj(9)
    piece = bytes(1 << 20)
    text = b"".join(packer.compress(piece) for _ in range(num_bytes >> 20)) + packer.flush()
    return _chunk(kind, b"Comment\0\0" + text)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_probe_video_png_with_one_long_text_is_refused(tmp_path: Path, kind: bytes) -> None:
    path = _with(tmp_path / "bomb.png", _packed(kind, 64 << 20))
    assert path.stat().st_size < 1 << 17
    with pytest.raises(MediaLimitError, match=r"bomb\.png: expected at most 16 MiB of texts"):
        probe_video(path, LIMITS)


def test_probe_video_png_texts_are_counted_together(tmp_path: Path) -> None:
    with pytest.raises(MediaLimitError, match="16 MiB of texts"):
        probe_video(write_text_picture(tmp_path / "t.png", 1000, 10_000_000), LIMITS)
    names = b"".join(_chunk(b"tEXt", b"k%d\0v" % number) for number in range(MAX_TEXTS + 1))
    with pytest.raises(MediaLimitError, match=f"at most {MAX_TEXTS} texts"):
        probe_video(_with(tmp_path / "names.png", names), LIMITS)


def test_probe_video_png_texts_of_a_second_picture_count(tmp_path: Path) -> None:
    first, second = write_still(tmp_path / "a", "png", "rgb24"), _with(tmp_path / "b", _packed(b"zTXt", 32 << 20))
    both = tmp_path / "both.png"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(MediaLimitError, match=r"both\.png"):
        probe_video(both, LIMITS)


def test_probe_video_png_colour_profile_keeps_the_process(tmp_path: Path, repo_root: Path) -> None:
    path = _with(tmp_path / "p.png", _packed(b"iCCP", 1 << 20))
    code = (
        "import gc; from pathlib import Path; from config import MediaLimits; from media.probe import probe_video;"
        f"probe_video(Path({str(path)!r}), MediaLimits()); gc.collect(); print('whole')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "whole\n")


def test_probe_video_png_with_ordinary_texts_passes(tmp_path: Path) -> None:
    texts = _chunk(b"tEXt", b"prompt\0" + b"a" * 2_000_000) + _packed(b"iCCP", 1 << 20) + _chunk(b"zTXt", b"broken")
    assert probe_video(_with(tmp_path / "p.png", texts), LIMITS).is_still
    cut = tmp_path / "cut.png"
    cut.write_bytes(_with(tmp_path / "q.png", texts).read_bytes()[:500_000])
    with pytest.raises(Exception, match=r"cut\.png"):
        probe_video(cut, LIMITS)
