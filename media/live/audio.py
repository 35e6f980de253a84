"""Audio of live sessions: resampling to 48 kHz and 16 kHz, and Opus encoding."""

from __future__ import annotations

from typing import Final

import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from media.live.mp4_boxes import AUDIO_RATE

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
