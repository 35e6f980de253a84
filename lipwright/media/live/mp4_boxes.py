"""Boxes of a fragmented MP4 with one H.264 track and one Opus track.

ISO/IEC 14496-12 (boxes), 14496-15 (avcC), "Encapsulation of Opus in ISO Base Media File Format" 0.8.1 (Opus, dOps).
Not written by FFmpeg, because its muxer holds back the last packet of each track: one frame of delay.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lipwright.media.probe import VideoInfo

VIDEO_TRACK: Final = 1
AUDIO_TRACK: Final = 2
AUDIO_RATE: Final = 48_000

_MATRIX: Final = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_PRE_SKIP: Final = 312  # libopus at 48 kHz: its look-ahead of 6.5 ms


@dataclass(frozen=True)
class ParameterSets:
    """Sequence and picture parameter set of an H.264 stream, one NAL unit each."""

    sps: bytes
    pps: bytes

    @property
    def codec(self) -> str:
        """The codec string (RFC 6381), for example `avc1.64001f`."""
        return f"avc1.{self.sps[1:4].hex()}"


def box(kind: bytes, *parts: bytes) -> bytes:
    """Return a box with its content."""
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """Return a box with version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def stream_head(info: VideoInfo, headers: ParameterSets) -> bytes:
    """Return the initialization segment: `ftyp` and `moov`. A video frame lasts `fps.denominator` ticks."""
    picture = _track(VIDEO_TRACK, info.fps.numerator, _avc1(info, headers), b"vide", _vmhd(), info.width, info.height)
    sound = _track(AUDIO_TRACK, AUDIO_RATE, _opus(), b"soun", full_box(b"smhd", 0, 0, bytes(4)), 0, 0)
    extends = box(b"mvex", *(full_box(b"trex", 0, 0, struct.pack(">5I", track, 1, 0, 0, 0)) for track in (1, 2)))
    head = full_box(b"mvhd", 0, 0, struct.pack(">4I", 0, 0, 1000, 0), _RATE_AND_VOLUME, _MATRIX, bytes(24), _NEXT_TRACK)
    return box(b"ftyp", b"iso6", bytes(4), b"iso6mp41") + box(b"moov", head, picture, sound, extends)


_RATE_AND_VOLUME: Final = struct.pack(">IHH8x", 0x10000, 0x100, 0)
_NEXT_TRACK: Final = struct.pack(">I", 3)


def _track(number: int, scale: int, entry: bytes, kind: bytes, header: bytes, width: int, height: int) -> bytes:
    volume = 0x100 if kind == b"soun" else 0
    shown = struct.pack(">5I8x4H", 0, 0, number, 0, 0, 0, 0, volume, 0)
    tkhd = full_box(b"tkhd", 0, 3, shown, _MATRIX, struct.pack(">II", width << 16, height << 16))
    mdhd = full_box(b"mdhd", 0, 0, struct.pack(">4IHH", 0, 0, scale, 0, 0x55C4, 0))  # language: und
    hdlr = full_box(b"hdlr", 0, 0, bytes(4), kind, bytes(12), b"\0")
    here = box(b"dinf", full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, 1)))
    empty = [
        full_box(name, 0, 0, bytes(size)) for name, size in ((b"stts", 4), (b"stsc", 4), (b"stsz", 8), (b"stco", 4))
    ]
    stbl = box(b"stbl", full_box(b"stsd", 0, 0, struct.pack(">I", 1), entry), *empty)
    return box(b"trak", tkhd, box(b"mdia", mdhd, hdlr, box(b"minf", header, here, stbl)))


def _vmhd() -> bytes:
    return full_box(b"vmhd", 0, 1, bytes(8))


def avc_record(headers: ParameterSets) -> bytes:
    """Return the AVCDecoderConfigurationRecord (ISO/IEC 14496-15), with NAL unit lengths of four bytes."""
    sps, pps = headers.sps, headers.pps
    sets = struct.pack(">BBBBBBH", 1, sps[1], sps[2], sps[3], 0xFF, 0xE1, len(sps)) + sps
    return sets + struct.pack(">BH", 1, len(pps)) + pps + _high_profile(sps)


def _avc1(info: VideoInfo, headers: ParameterSets) -> bytes:
    colour, aspect = info.colour, info.sample_aspect_ratio
    tags = (colour.primaries, colour.transfer, colour.matrix, 0x80 if colour.full_range else 0)
    size = struct.pack(">6xH16xHHIIIH32xHh", 1, info.width, info.height, 0x480000, 0x480000, 0, 1, 24, -1)
    boxes = [box(b"avcC", avc_record(headers)), box(b"colr", b"nclx", struct.pack(">HHHB", *tags))]
    if aspect not in (0, 1):
        boxes.append(box(b"pasp", struct.pack(">II", aspect.numerator, aspect.denominator)))
    return box(b"avc1", size, *boxes)


def _high_profile(sps: bytes) -> bytes:
    """Return the avcC extension for profiles from High on: 4:2:0, 8 bits."""
    return bytes([0xFD, 0xF8, 0xF8, 0]) if sps[1] >= 100 else b""


def _opus() -> bytes:
    config = struct.pack(">BBHIhB", 0, 1, _PRE_SKIP, AUDIO_RATE, 0, 0)
    return box(b"Opus", struct.pack(">6xH8xHH4xI", 1, 1, 16, AUDIO_RATE << 16), box(b"dOps", config))


def fragment(number: int, tracks: Sequence[tuple[int, int, Sequence[tuple[bytes, int, bool]]]]) -> bytes:
    """Return a `moof` box with its `mdat`.

    Args:
        number: Sequence number of the fragment, from 1.
        tracks: Number, decoding time of the first sample in ticks, and the samples: bytes, ticks that it lasts, and
            whether decoding can begin with it. Tracks without samples are left out.
    """
    tracks = [track for track in tracks if track[2]]
    size = len(_moof(number, tracks, 0))
    return _moof(number, tracks, size + 8) + box(b"mdat", *(data for _, _, samples in tracks for data, _, _ in samples))


def _moof(number: int, tracks: Sequence[tuple[int, int, Sequence[tuple[bytes, int, bool]]]], offset: int) -> bytes:
    parts = []
    for track, start, samples in tracks:
        tfhd = full_box(b"tfhd", 0, 0x20000, struct.pack(">I", track))  # offsets count from this moof
        tfdt = full_box(b"tfdt", 1, 0, struct.pack(">Q", start))
        rows = [struct.pack(">III", ticks, len(data), _SYNC if sync else _NO_SYNC) for data, ticks, sync in samples]
        trun = full_box(b"trun", 0, 0x701, struct.pack(">Ii", len(samples), offset), *rows)
        parts.append(box(b"traf", tfhd, tfdt, trun))
        offset += sum(len(data) for data, _, _ in samples)
    return box(b"moof", full_box(b"mfhd", 0, 0, struct.pack(">I", number)), *parts)


_SYNC: Final = 0x02000000  # depends on no other
_NO_SYNC: Final = 0x01010000
