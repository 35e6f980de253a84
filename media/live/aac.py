"""AAC for destinations that do not accept Opus: RTMP, and most receivers of MPEG-TS."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.codec.context import Flags
from numpy.typing import NDArray

from media.live.mp4_boxes import AUDIO_RATE

AAC_SAMPLES: Final = 1024
"""Samples of one AAC packet."""

_ADTS_BYTES: Final = 7
_LC, _48_KHZ, _MONO = 1, 3, 1
_BIT_RATE: Final = 96_000  # FFmpeg's encoder needs more than Opus for mono speech


class AacPacket(NamedTuple):
    """One packet.

    Attributes:
        first_sample: Number of its first sample in the stream, at 48 kHz.
        payload: A raw AAC frame, without ADTS header.
    """

    first_sample: int
    payload: bytes

    @property
    def adts(self) -> bytes:
        """The frame with an ADTS header (ISO/IEC 14496-3, 1.A.2.2): AAC-LC, 48 kHz, mono, without a checksum."""
        size = len(self.payload) + _ADTS_BYTES
        fields = (0xFFF1 << 40) | (_LC << 38) | (_48_KHZ << 34) | (_MONO << 30) | (size << 13) | (0x7FF << 2)
        return fields.to_bytes(_ADTS_BYTES, "big") + self.payload


class AacEncoder:
    """Encodes mono sound at 48 kHz to AAC-LC.

    Args:
        first_sample: Number of the first sample in the stream.

    Attributes:
        config: AudioSpecificConfig (ISO/IEC 14496-3).
        next_sample: Number of the sample that `encode` expects.
    """

    def __init__(self, first_sample: int) -> None:
        context = AudioCodecContext.create("aac", "w")
        context.sample_rate, context.layout, context.format = AUDIO_RATE, "mono", "fltp"
        context.bit_rate = _BIT_RATE
        context.flags |= Flags.global_header
        context.open()
        self.config = bytes(context.extradata or b"")
        self.next_sample = self._first = first_sample
        self._context = context
        self._waiting = np.zeros(0, np.float32)
        self._num_encoded = 0

    def encode(self, samples: NDArray[np.int16]) -> list[AacPacket]:
        """Return the packets that are complete with (N,) more samples.

        The encoder starts with one packet before the first sample, which is dropped.
        """
        self.next_sample += len(samples)
        waiting = np.concatenate([self._waiting, samples.astype(np.float32) / 32768])
        whole = len(waiting) // AAC_SAMPLES * AAC_SAMPLES
        self._waiting = waiting[whole:]
        packets: list[AacPacket] = []
        for start in range(0, whole, AAC_SAMPLES):
            piece = np.ascontiguousarray(waiting[None, start : start + AAC_SAMPLES])
            frame = AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = AUDIO_RATE, self._num_encoded
            self._num_encoded += AAC_SAMPLES
            for packet in self._context.encode(frame):
                if packet.pts is not None and packet.pts >= 0:
                    packets.append(AacPacket(self._first + packet.pts, bytes(packet)))
        return packets
