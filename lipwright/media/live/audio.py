"""Audio of live sessions: resampling to 48 and 16 kHz, Opus, and AAC for destinations that do not accept Opus."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.codec.context import Flags
from numpy.typing import NDArray

from lipwright.media.live.mp4_boxes import AUDIO_RATE

AAC_SAMPLES: Final = 1024
"""Samples of one AAC packet."""

_ADTS_BYTES: Final = 7
_LC, _48_KHZ, _MONO = 1, 3, 1
_AAC_BIT_RATE: Final = 96_000  # FFmpeg's encoder needs more than Opus for mono speech


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
        context.bit_rate = _AAC_BIT_RATE
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


OPUS_SAMPLES: Final = AUDIO_RATE // 50
"""Samples of one Opus packet: 20 ms."""

_RATIO: Final = 3  # 48 kHz to 16 kHz
_TAPS: Final = 72
_BIT_RATE: Final = 48_000  # mono speech: RFC 6716 calls 28-40 kb/s fullband


class InputResampler:
    """Resamples one utterance to 48 kHz."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._resampler = AudioResampler("s16p", "mono", AUDIO_RATE)

    def push(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        """Return the output for (N,) more int16 samples."""
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="s16p", layout="mono")
        frame.sample_rate = self._rate
        return self._take(frame)

    def end(self) -> NDArray[np.int16]:
        """Return the buffered output; the next utterance needs a new resampler."""
        return self._take(None)

    def _take(self, frame: AudioFrame | None) -> NDArray[np.int16]:
        parts = [made.to_ndarray()[0] for made in self._resampler.resample(frame)]
        return np.concatenate([np.zeros(0, np.int16), *parts])


class Downsampler:
    """Streaming downsampler from 48 kHz to 16 kHz: a windowed sinc of 1.5 ms, with half of that as delay."""

    def __init__(self) -> None:
        places = np.arange(_TAPS) - (_TAPS - 1) / 2
        taps = np.sinc(0.93 * places / _RATIO) * np.kaiser(_TAPS, 6.0)
        self._taps = (taps / taps.sum()).astype(np.float32)
        self._before = np.zeros(_TAPS - 1, np.float32)

    def push(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        """Return (N / 3,) samples for (N,); N is a multiple of 3."""
        whole = np.concatenate([self._before, samples.astype(np.float32)])
        self._before = whole[-(_TAPS - 1) :]
        return np.rint(np.convolve(whole, self._taps, "valid")[::_RATIO]).clip(-32768, 32767).astype(np.int16)


class OpusEncoder:
    """Encodes the continuous audio of one session."""

    def __init__(self) -> None:
        context = AudioCodecContext.create("libopus", "w")
        context.sample_rate, context.layout, context.format = AUDIO_RATE, "mono", "s16"
        context.bit_rate = _BIT_RATE
        # From complexity 7 on, libopus analyses the sound, which takes three times as long.
        context.options = {"frame_duration": "20", "application": "audio", "compression_level": "6"}
        context.open()
        self._context = context
        self._num_samples = 0

    def encode(self, samples: NDArray[np.int16]) -> list[bytes]:
        """Return the packets of (N,) samples at 48 kHz; N is a multiple of `OPUS_SAMPLES`."""
        packets: list[bytes] = []
        for start in range(0, len(samples), OPUS_SAMPLES):
            piece = np.ascontiguousarray(samples[None, start : start + OPUS_SAMPLES])
            frame = AudioFrame.from_ndarray(piece, format="s16", layout="mono")
            frame.sample_rate, frame.pts = AUDIO_RATE, self._num_samples
            self._num_samples += OPUS_SAMPLES
            packets += (bytes(packet) for packet in self._context.encode(frame))
        return packets
