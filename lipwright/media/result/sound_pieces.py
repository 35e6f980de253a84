"""Encodes sound as AAC in pieces and keeps them, so that a revision encodes only those that sound different.

Packet k carries samples [(k - 1) x 1024, (k + 1) x 1024) and overlaps its neighbours. FFmpeg's encoder chooses the
windows of a packet, which must fit those of its neighbours, by the few frames around it, and its bit rate by all frames
so far. So a piece is reused if the margins around it are the same too, and an encoder that starts in the middle of the
sound begins some seconds earlier.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from itertools import count, islice
from pathlib import Path
from typing import Final, NamedTuple
from zipfile import BadZipFile, ZipFile

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet
from numpy.typing import NDArray

from lipwright.media.audio_parts import Blocks

logger = logging.getLogger(__name__)

_FRAME: Final = 1024  # samples
_PIECE: Final = 128  # packets
# Frames of the margins. From its ninth packet on, an encoder that starts in the middle of the sound chooses the windows
# of one that started at the beginning (all of 4,187 packets of four recordings, mono and stereo, 24 to 48 kHz).
_BEFORE, _AFTER = 8, 2
_WARM_UP: Final = 256  # frames, in which the bit rate settles
_LENGTH_BYTES: Final = 2


class PieceFiles(NamedTuple):
    """Where the pieces of a sound are kept: the file to write, and that of an earlier version of the sound."""

    out: Path
    earlier: Path | None = None


def encode_pieces(blocks: Blocks, aac: AudioCodecContext, files: PieceFiles) -> Iterator[Packet[AudioStream]]:
    """Yield the packets of a sound, and write its pieces.

    Args:
        blocks: The sound.
        aac: The settings of the encoder.
        files: Pieces that the earlier file has are not encoded.
    """
    frames, held = _frames(blocks), list[NDArray[np.float32]]()
    first = 0  # number of the first held frame
    encoder: _Encoder | None = None
    with ExitStack() as opened:
        made, earlier = opened.enter_context(ZipFile(files.out, "w")), _opened(files.earlier, opened)
        for start in count(0, _PIECE):
            held += islice(frames, start + _PIECE + _AFTER - first - len(held))
            num_packets = first + len(held) + 1  # of what is known of the sound
            piece = range(start, min(start + _PIECE, num_packets))
            if not held or not piece:
                return
            name = _digest(held[max(0, start - 1 - _BEFORE - first) :], aac, piece)
            contents = _read(earlier, name)
            if contents is not None:
                encoder = None
            else:
                encoder = encoder or _Encoder(aac, max(0, start - 1 - _WARM_UP))
                encoder.add(held[encoder.num_frames - first :])
                contents = encoder.packets(piece)
            made.writestr(name, b"".join(len(each).to_bytes(_LENGTH_BYTES, "big") + each for each in contents))
            for number, content in zip(piece, contents, strict=True):
                yield _packet(content, number, _FRAME if number + 1 < num_packets else held[-1].shape[1], aac)
            num_unused = max(0, start + _PIECE - 1 - _WARM_UP - first)
            del held[:num_unused]
            first += num_unused


class _Encoder:
    """An encoder that starts at a frame of a sound."""

    def __init__(self, aac: AudioCodecContext, first: int) -> None:
        self.num_frames = self._num_done = first
        self._contents: list[bytes] = []
        context = av.CodecContext.create("aac", "w")
        assert isinstance(context, AudioCodecContext)
        context.sample_rate, context.layout, context.bit_rate = aac.sample_rate, aac.layout, aac.bit_rate
        context.format = "fltp"
        self._context = context

    def add(self, frames: Sequence[NDArray[np.float32]]) -> None:
        """Encode the next frames."""
        if frames:
            context, samples = self._context, np.concatenate(frames, axis=1)
            frame = AudioFrame.from_ndarray(samples, format="fltp", layout=context.layout.name)
            frame.sample_rate, frame.time_base = context.sample_rate, Fraction(1, context.sample_rate)
            frame.pts = self.num_frames * _FRAME
            self._contents += map(bytes, context.encode(frame))
            self.num_frames += len(frames)

    def packets(self, numbers: range) -> list[bytes]:
        """Return the next packets without those before `numbers`; end the encoder if some are still missing."""
        if len(self._contents) < numbers.stop - self._num_done:
            self._contents += map(bytes, self._context.encode(None))
        made = self._contents[numbers.start - self._num_done : numbers.stop - self._num_done]
        del self._contents[: numbers.stop - self._num_done]
        self._num_done = numbers.stop
        return made


def _frames(blocks: Blocks) -> Iterator[NDArray[np.float32]]:
    """Cut a sound into frames; the last one may be shorter."""
    rest: NDArray[np.float32] | None = None
    for block in blocks:
        rest = block if rest is None else np.concatenate([rest, block], axis=1)
        while rest.shape[1] >= _FRAME:
            yield rest[:, :_FRAME]
            rest = rest[:, _FRAME:]
    if rest is not None and rest.shape[1]:
        yield rest


def _packet(content: bytes, number: int, duration: int, aac: AudioCodecContext) -> Packet[AudioStream]:
    packet: Packet[AudioStream] = Packet(content)  # type: ignore[assignment]
    # From these times the muxer derives the encoder's delay and writes the edit list that hides it.
    packet.pts = packet.dts = (number - 1) * _FRAME
    packet.duration, packet.time_base, packet.is_keyframe = duration, Fraction(1, aac.sample_rate), True
    return packet


def _digest(heard: Sequence[NDArray[np.float32]], aac: AudioCodecContext, piece: range) -> str:
    """Return a hash of what decides a piece: its samples and their margins, its place, and the encoder."""
    encoder = aac.sample_rate, aac.layout.name, aac.bit_rate, av.library_versions["libavcodec"]
    hashed = hashlib.blake2b(repr((encoder, piece)).encode(), digest_size=16)
    for frame in heard:
        hashed.update(frame.tobytes())
    return hashed.hexdigest()


def _opened(path: Path | None, opened: ExitStack) -> ZipFile | None:
    if path is None:
        return None
    try:
        return opened.enter_context(ZipFile(path))
    except BadZipFile as error:
        logger.warning("%s: the sound is encoded again, its file is damaged: %s", path.name, error)
        return None


def _read(earlier: ZipFile | None, name: str) -> list[bytes] | None:
    """Return the packets of a piece; None if it is not there or damaged."""
    if earlier is None or name not in earlier.NameToInfo:
        return None
    try:
        content = earlier.read(name)
    except BadZipFile as error:
        logger.warning("the sound is encoded again, a piece of it is damaged: %s", error)
        return None
    packets, at = [], 0
    while at < len(content):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(content[at:start], "big")
        packets.append(content[start:at])
    return packets
