"""Small files that cost much, or say what is not so: made on the spot, from nothing but bytes and short clips."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer

from tests.unit.media.clips import audio_frames, noise, write_audio, write_still, write_video


def write_fast_video(path: Path, fps: int, num_frames: int = 75) -> Path:
    """A video whose frames follow one another at a rate that no camera has."""
    return write_video(path, num_frames, fps=Fraction(25), pts=range(num_frames), time_base=Fraction(1, fps))


def write_frozen_video(path: Path, freeze_seconds: float, num_before: int = 50, num_after: int = 25) -> Path:
    """25 fps in milliseconds; the picture before the gap stands still for `freeze_seconds`."""
    late = [num_before * 40 + round(1000 * freeze_seconds) + 40 * k for k in range(num_after)]
    pts = [40 * k for k in range(num_before)] + late
    return write_video(path, len(pts), pts=pts, time_base=Fraction(1, 1000))


def write_sound_with_gap(path: Path, gap_seconds: float, codec: str, rate: int = 48000) -> Path:
    """Half a second of sound, a hole in the time stamps, half a second of sound."""
    with av.open(path, "w") as container:
        assert isinstance(container, OutputContainer)
        stream: Any = container.add_stream(codec, rate=rate, layout="mono")
        for number, frame in enumerate(audio_frames(noise(1.0, rate)[None], rate, "fltp")):
            frame.pts = 960 * number + (round(gap_seconds * rate) if number >= 25 else 0)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_loud_wav(path: Path, value: float) -> Path:
    """Half a second of 64-bit float sound with `value` in it twice."""
    samples = noise(0.5, 16000).astype(np.float64)
    samples[3000], samples[5000] = value, -value
    data = samples.astype("<f8").tobytes()
    form = struct.pack("<IHHIIHH", 16, 3, 1, 16000, 16000 * 8, 8, 64)
    head = b"RIFF" + struct.pack("<I", len(data) + 36) + b"WAVEfmt " + form + b"data" + struct.pack("<I", len(data))
    path.write_bytes(head + data)
    return path


def write_chained_ogg(path: Path, num_channels: tuple[int, ...] = (1, 2)) -> Path:
    """Whole Ogg files one behind the other, as internet radio sends them; FFmpeg cannot change channels on the way."""
    parts = []
    for number, channels in enumerate(num_channels):
        part = path.with_suffix(f".{number}.ogg")
        samples = np.repeat(noise(0.6, 48000, number)[None], channels, 0)
        write_audio(part, samples, 48000, "libopus", sample_format="s16")
        parts.append(part.read_bytes())
        part.unlink()
    path.write_bytes(b"".join(parts))
    return path


def write_text_picture(path: Path, num_chunks: int, num_bytes: int) -> Path:
    """A PNG with `num_chunks` compressed texts of `num_bytes` zeros each."""
    still = write_still(path, "png", "rgb24").read_bytes()
    text = b"Comment\0\0" + zlib.compress(bytes(num_bytes), 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    path.write_bytes(still[:33] + chunk * num_chunks + still[33:])
    return path


def write_tagged_sound(path: Path, num_frames: int) -> Path:
    """An MP3 with an ID3 tag of `num_frames` texts, each of another name."""
    sound = write_audio(path, noise(1.0, 44100)[None], 44100, "libmp3lame").read_bytes()
    frames = b"".join(
        b"TXXX" + _syncsafe(len(text)) + bytes(2) + text
        for text in (b"\0k%d\0v%d" % (number, number) for number in range(num_frames))
    )
    path.write_bytes(b"ID3\4\0\0" + _syncsafe(len(frames)) + frames + sound[_id3_bytes(sound) :])
    return path


def write_edited_video(path: Path, num_edits: int) -> Path:
    """An MP4 whose edit list shows its last frames `num_edits` times, each time from the one key frame before them."""
    movie = bytearray(write_video(path, 250, gop=250, size=(64, 64)).read_bytes())
    at = movie.index(b"elst") - 4
    (size,) = struct.unpack_from(">I", movie, at)
    edits = struct.pack(">IiI", 100, 240 * 512, 65536) * num_edits  # 100 ms; 512 units a frame
    box = struct.pack(">I4sII", 16 + len(edits), b"elst", 0, num_edits) + edits
    for name in (b"moov", b"trak", b"edts"):
        start = movie.index(name) - 4
        struct.pack_into(">I", movie, start, struct.unpack_from(">I", movie, start)[0] + len(box) - size)
    path.write_bytes(movie[:at] + box + movie[at + size :])
    return path


def _syncsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def _id3_bytes(sound: bytes) -> int:
    if not sound.startswith(b"ID3"):
        return 0
    return 10 + sum(byte << shift for byte, shift in zip(sound[6:10], (21, 14, 7, 0), strict=True))
