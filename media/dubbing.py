"""Fits synthesized speech into the time slots of a dub: trims silence, plays faster, and cuts what is left over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import av
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from config import MediaLimits
from errors import MediaLimitError
from media.audio import AudioTrack
from media.time_stretch import stretch

MAX_SPEED: Final = 1.35
"""Fastest playback; speech remains natural up to about this speed."""
_MAX_RATE: Final = 48_000
_BLOCK_SECONDS: Final = 0.01
_SILENCE: Final = 10 ** (-40 / 20)
"""Level of silence around speech, relative to its loudest block."""
_FADE_SECONDS: Final = 0.03
_FLAC_BLOCK: Final = 4096


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
    """The speech of one slot.

    Attributes:
        audio_start: Where it starts in the file, in seconds.
        end: When it ends in the video; until `SpeechSlot.end` it is followed by silence.
        speed: How much faster it is played than it was synthesized, 1 or more.
        cut_seconds: How much of it does not fit and is cut off, in seconds of the video.
    """

    audio_start: float
    end: float
    speed: float
    cut_seconds: float


def fit(seconds: float, slot: SpeechSlot) -> tuple[float, float, float]:
    """Returns speed, duration and cut duration of speech that takes `seconds` at its own speed.

    The speech is played faster, up to `MAX_SPEED`, to end with the slot; then it uses the pause until `latest`; the
    rest is cut.
    """
    room = slot.latest - slot.start
    wanted = min(seconds, room) if slot.end is None else slot.end - slot.start
    speed = min(max(seconds / wanted, 1.0), MAX_SPEED)
    kept = min(seconds / speed, max(room, wanted))
    return speed, kept, seconds / speed - kept


def write_dub(files: Sequence[Path], slots: Sequence[SpeechSlot], out: Path, limits: MediaLimits) -> bytes:
    """Writes the speech of all slots, one after the other, to one mono FLAC file.

    Args:
        files: The synthesized speech of each slot.
        slots: When each is spoken.
        out: The file to write.
        limits: Limits on each file, and on the duration of the result.

    Returns:
        One `FittedSpeech` per slot; see `fitted_speech`.

    Raises:
        MediaError: A file has no usable audio.
        MediaLimitError: A file, or all slots together, are longer than allowed.
    """
    rate = min(max(_sample_rate(path, limits) for path in files), _MAX_RATE)
    fits: list[FittedSpeech] = []
    with _FlacWriter(out, rate) as writer:
        for path, slot in zip(files, slots, strict=True):
            speech = _trimmed(_decoded(path, rate, limits), rate)
            speed, kept, cut = fit(speech.shape[1] / rate, slot)
            end = slot.start + kept if slot.end is None else max(slot.end, slot.start + kept)
            fits.append(FittedSpeech(writer.num_samples / rate, end, speed, cut))
            writer.write(_placed(stretch([speech], rate, speed), round(kept * rate), cut > 0, rate))
            writer.write([np.zeros((1, max(round((end - slot.start - kept) * rate), 0)), np.float32)])
            if writer.num_samples > limits.max_audio_seconds * rate:
                raise MediaLimitError(f"turns: expected at most {limits.max_audio_seconds:g} s of speech, found more.")
    return np.array(fits, np.float64).tobytes()


def fitted_speech(written: bytes) -> list[FittedSpeech]:
    """Returns what `write_dub` returned, from bytes, in which a sandboxed process can answer."""
    return [FittedSpeech(*row) for row in np.frombuffer(written, np.float64).reshape(-1, 4).tolist()]


def _sample_rate(path: Path, limits: MediaLimits) -> int:
    with closing(AudioTrack(path, limits)) as track:
        return track.info.sample_rate


def _decoded(path: Path, rate: int, limits: MediaLimits) -> NDArray[np.float32]:
    """Returns (1, n) samples of a whole file."""
    with closing(AudioTrack(path, limits)) as track:
        return np.concatenate(list(track.blocks(rate, "mono", "fltp")), axis=1)


def _trimmed(speech: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Returns the speech without the silence before and after it; one block of silence is kept on each side."""
    size = round(_BLOCK_SECONDS * rate)
    blocks = np.pad(speech[0], (0, -speech.shape[1] % size)).reshape(-1, size)
    levels = np.sqrt(np.mean(np.square(blocks, dtype=np.float64), axis=1))
    loud = np.flatnonzero(levels > _SILENCE * levels.max(initial=0.0))
    if not len(loud):
        return speech[:, :size]
    return speech[:, max(loud[0] - 1, 0) * size : (loud[-1] + 2) * size]


def _placed(
    blocks: Iterable[NDArray[np.float32]], num_samples: int, fades_out: bool, rate: int
) -> Iterator[NDArray[np.float32]]:
    """Yields exactly `num_samples`, followed by silence if there are fewer; the end is faded out if it was cut."""
    speech = np.concatenate(list(blocks), axis=1)[:, :num_samples]
    if fades_out:
        num_fade = min(round(_FADE_SECONDS * rate), speech.shape[1])
        speech[:, speech.shape[1] - num_fade :] *= np.linspace(1, 0, num_fade, dtype=np.float32)
    yield speech
    yield np.zeros((1, num_samples - speech.shape[1]), np.float32)


class _FlacWriter:
    """Writes mono FLAC, 16 bits."""

    def __init__(self, out: Path, rate: int) -> None:
        self.num_samples = 0
        self._rate = rate
        self._container = av.open(str(out), "w", format="flac")
        self._stream = self._container.add_stream("flac", rate=rate)
        self._stream.codec_context.layout = "mono"
        self._stream.codec_context.format = "s16"

    def __enter__(self) -> _FlacWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def write(self, blocks: Iterable[NDArray[np.float32]]) -> None:
        """Appends (1, n) float32 blocks."""
        for block in blocks:
            samples = np.rint(block.clip(-1, 1) * 32767).astype(np.int16)
            for start in range(0, samples.shape[1], _FLAC_BLOCK):
                part = np.ascontiguousarray(samples[:, start : start + _FLAC_BLOCK])
                frame = AudioFrame.from_ndarray(part, format="s16", layout="mono")
                frame.sample_rate, frame.pts = self._rate, self.num_samples
                self.num_samples += part.shape[1]
                self._container.mux(self._stream.encode(frame))
