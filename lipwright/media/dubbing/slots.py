"""Fits synthesized speech into the time slots of a dub: trims silence, plays faster, and cuts what is left over."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from math import inf
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple, Self

import av
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.media.audio import AudioTrack
from lipwright.media.dubbing.time_stretch import stretch
from lipwright.media.phones import Closures
from lipwright.media.playback import MAX_SPEED

MAX_SLOT_SECONDS: Final = 600.0
"""Longest slot, and longest speech of one text: both are held in memory."""
RATE: Final = 48_000
"""Samples per second of the result, at least that of all common voices."""
_BLOCK_SECONDS: Final = 0.01
_SILENCE: Final = 10 ** (-40 / 20)
"""Level of silence around speech, relative to its loudest block."""
_FADE_SECONDS: Final = 0.03
_FLAC_BLOCK: Final = 4096
_NUMBERS: Final = Struct("<ddd")


class SpeechSlot(NamedTuple):
    """The time for one text, in seconds of the video.

    Attributes:
        start: When the speech starts.
        end: When it should end; None if it may take as long as it needs.
        latest: When it has to end, at or after `end`: the same face speaks again.
    """

    start: float
    end: float | None
    latest: float


class FittedSpeech(NamedTuple):
    """The speech of one slot, with the silence that fills the slot.

    Attributes:
        samples: (n,) int16 at `RATE`.
        speed: How much faster it is played than it was synthesized, 1 or more.
        cut_seconds: How much of it does not fit and is cut off, in seconds of the video.
        lead_seconds: How much silence was trimmed before it.
    """

    samples: NDArray[np.int16]
    speed: float
    cut_seconds: float
    lead_seconds: float

    @property
    def seconds(self) -> float:
        """Duration, with the silence."""
        return len(self.samples) / RATE

    def to_bytes(self) -> bytes:
        """Return bytes, in which a sandboxed process can answer."""
        return _NUMBERS.pack(self.speed, self.cut_seconds, self.lead_seconds) + self.samples.astype("<i2").tobytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return the speech of `to_bytes`; ValueError for other bytes."""
        if len(content) < _NUMBERS.size or len(content) % 2:
            raise ValueError("expected three numbers and 16-bit samples")
        speed, cut_seconds, lead_seconds = _NUMBERS.unpack_from(content)
        if not (1 <= speed <= MAX_SPEED and 0 <= cut_seconds < inf and 0 <= lead_seconds < inf):
            raise ValueError(f"expected a speed and durations, found {speed:g}, {cut_seconds:g} and {lead_seconds:g}")
        return cls(np.frombuffer(content, "<i2", offset=_NUMBERS.size), speed, cut_seconds, lead_seconds)

    def placed(self, closures: Closures, start: float) -> Closures:
        """Return the closures of the synthesized file in this speech, which starts at `start` seconds."""
        times = ((np.array(closures).reshape(-1, 2) - self.lead_seconds) / self.speed).clip(0).round(3)
        return tuple((start + first, start + last) for first, last in times.tolist() if first < self.seconds and last)


def fit(seconds: float, slot: SpeechSlot) -> tuple[float, float, float]:
    """Return speed, duration and cut duration of speech that takes `seconds` at its own speed.

    The speech is played faster, up to `MAX_SPEED`, to end with the slot; then it uses the pause until `latest`; the
    rest is cut.
    """
    room = slot.latest - slot.start
    wanted = min(seconds, room) if slot.end is None else slot.end - slot.start
    speed = min(max(seconds / wanted, 1.0), MAX_SPEED)
    kept = min(seconds / speed, max(room, wanted))
    return speed, kept, seconds / speed - kept


def count_samples(path: Path, limits: MediaLimits) -> int:
    """Returns the length of synthesized speech, trimmed as by `fit_speech`, in samples at `RATE`; errors likewise."""
    return len(_decode(path, limits)[0][0])


def fit_speech(path: Path, slot: SpeechSlot, limits: MediaLimits) -> bytes:
    """Decode synthesized speech and fit it into a slot; silence before and after it is trimmed.

    Args:
        path: Any file with audio.
        slot: When it is spoken.
        limits: Limits on the file.

    Returns:
        A `FittedSpeech` as bytes.

    Raises:
        MediaError: The file has no usable audio.
        MediaLimitError: It is longer than allowed.
    """
    speech, lead_seconds = _decode(path, limits)
    speed, kept, cut = fit(speech.shape[1] / RATE, slot)
    num_kept = round(kept * RATE)
    speech = np.concatenate(list(stretch([speech], RATE, speed)), axis=1)[:, :num_kept]
    if cut > 0:
        num_fade = min(round(_FADE_SECONDS * RATE), speech.shape[1])
        speech[:, speech.shape[1] - num_fade :] *= np.linspace(1, 0, num_fade, dtype=np.float32)
    num_samples = num_kept if slot.end is None else max(round((slot.end - slot.start) * RATE), num_kept)
    samples = np.zeros(num_samples, np.int16)
    samples[: speech.shape[1]] = np.rint(speech[0].clip(-1, 1) * 32767)
    return FittedSpeech(samples, speed, cut, lead_seconds).to_bytes()


def _decode(path: Path, limits: MediaLimits) -> tuple[NDArray[np.float32], float]:
    """Returns (1, n) trimmed speech at `RATE`, and the seconds that were trimmed before it."""
    with closing(AudioTrack(path, limits)) as track:
        # FFmpeg does not normalize a downmix in floats: two equal channels would become 3 dB louder.
        samples = np.concatenate(list(track.blocks(RATE, "mono", "s16p")), axis=1)
        return _trim(np.divide(samples, 32768, dtype=np.float32))


def _trim(speech: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Return (1, n) speech without the silence before and after it, and the seconds before it.

    One block of silence is kept on each side.
    """
    size = round(_BLOCK_SECONDS * RATE)
    blocks = np.pad(speech[0], (0, -speech.shape[1] % size)).reshape(-1, size)
    levels = np.sqrt(np.mean(np.square(blocks, dtype=np.float64), axis=1))
    loud = np.flatnonzero(levels > _SILENCE * levels.max(initial=0.0))
    if not len(loud):
        return speech[:, :size], 0.0
    first = max(int(loud[0]) - 1, 0)
    return speech[:, first * size : (int(loud[-1]) + 2) * size], first * _BLOCK_SECONDS


class DubWriter:
    """Writes the speech of all slots, one after the other, to a mono FLAC file: its silence takes no space."""

    def __init__(self, out: Path) -> None:
        self._num_samples = 0
        self._container = av.open(str(out), "w", format="flac")
        self._stream = self._container.add_stream("flac", rate=RATE)
        self._stream.codec_context.layout = "mono"
        self._stream.codec_context.format = "s16"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    @property
    def seconds(self) -> float:
        """Duration so far."""
        return self._num_samples / RATE

    def write(self, samples: NDArray[np.int16]) -> None:
        """Append (n,) int16 samples at `RATE`."""
        for start in range(0, len(samples), _FLAC_BLOCK):
            part = np.ascontiguousarray(samples[None, start : start + _FLAC_BLOCK])
            frame = AudioFrame.from_ndarray(part, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, self._num_samples, Fraction(1, RATE)
            self._num_samples += part.shape[1]
            self._container.mux(self._stream.encode(frame))
