"""Incremental parser of 16-bit PCM WAV files, including those with an unknown length."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import VoiceError
from lipwright.media.phones import Closures, parse_closures

_MAX_HEAD_BYTES: Final = 1 << 20  # with the phones of a text, see `lipwright.media.phones`
_PCM, _EXTENSIBLE = 1, 0xFFFE
_RATES: Final = range(8000, 48001)
_MAX_CHANNELS: Final = 2


class WavStream:
    """Parses a WAV file (Microsoft, "Multiple Channel Audio Data and WAVE Files").

    Attributes:
        sample_rate: In Hz; 0 until the header is parsed.
        closures: When lips close, in seconds of the file, if the voice tells it before the samples; see
            `lipwright.media.phones`.
    """

    def __init__(self) -> None:
        self.sample_rate = 0
        self.closures: Closures = ()
        self._num_channels = 1
        self._held = b""
        self._is_sound = False

    def push(self, piece: bytes) -> NDArray[np.int16]:
        """Parse a chunk and return (N,) int16 samples, mixed down to mono.

        Raises:
            VoiceError: The file is not 16-bit PCM WAV.
        """
        self._held += piece
        if not self._is_sound and not self._read_head():
            return np.zeros(0, np.int16)
        size = 2 * self._num_channels
        whole = len(self._held) // size * size
        samples = np.frombuffer(self._held[:whole], "<i2").reshape(-1, self._num_channels)
        self._held = self._held[whole:]
        mixed: NDArray[np.int16] = samples.mean(1).astype(np.int16)
        return mixed

    def _read_head(self) -> bool:
        """Parse the header; return whether it is complete."""
        place = 12
        while len(self._held) >= place + 8:
            name, size = struct.unpack_from("<4sI", self._held, place)
            if name == b"data":
                self._check()
                self._held, self._is_sound = self._held[place + 8 :], True
                return True
            if name == b"fmt " and len(self._held) >= place + 24:
                self._read_format(place + 8)
            if name == b"phon" and len(self._held) >= place + 8 + size:
                self.closures = parse_closures(self._held[place + 8 : place + 8 + size])
            place += 8 + size + size % 2
        if len(self._held) > _MAX_HEAD_BYTES or (len(self._held) >= 12 and self._held[:4] != b"RIFF"):
            raise VoiceError("The voice did not return a WAV file.")
        return False

    def _read_format(self, place: int) -> None:
        kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", self._held, place)
        if kind not in (_PCM, _EXTENSIBLE) or bits != 16 or channels > _MAX_CHANNELS or rate not in _RATES:
            raise VoiceError(f"The voice: expected 16 bit PCM, found {kind = }, {bits = }, {channels = }, {rate = }.")
        self.sample_rate, self._num_channels = rate, max(1, channels)

    def _check(self) -> None:
        if not self.sample_rate:
            raise VoiceError("The voice returned a WAV file without a format.")
