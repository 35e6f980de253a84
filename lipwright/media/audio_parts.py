"""Parts of audio files, placed in time and mixed: the speech of several turns as one track."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.media.audio import AudioTrack
from lipwright.media.dubbing.time_stretch import stretch
from lipwright.media.probe import AudioInfo
from lipwright.media.speech_writer import SPEECH_SAMPLE_RATE, SpeechWriter

FileT = TypeVar("FileT")
OtherT = TypeVar("OtherT")

Blocks = Iterator[NDArray[np.float32]]
"""(channels, n) float32 blocks of one track."""

BLOCK_SAMPLES: Final = 4096
_FADE_SECONDS: Final = 0.005  # no click where a part begins or ends in the middle of a sound
_INT16_SCALE: Final = 32768


class SoundFormat(NamedTuple):
    """Sample rate in Hz, and layout: `mono` or `stereo`."""

    rate: int
    layout: str

    @property
    def num_channels(self) -> int:
        """1 or 2."""
        return 1 if self.layout == "mono" else 2


class AudioPart(NamedTuple, Generic[FileT]):
    """Part of a file, and when it is played; all times in seconds.

    Attributes:
        file: The file, as a path or as a key.
        start: When it starts.
        stop: When it is cut off; None plays the file to its end.
        file_start: Where it begins in the file.
        speed: Seconds of the file per second of the track; other than 1 only for a whole track.
        gain_db: Its gain.
    """

    file: FileT
    start: float = 0.0
    stop: float | None = None
    file_start: float = 0.0
    speed: float = 1.0
    gain_db: float = 0.0

    @property
    def is_whole_track(self) -> bool:
        """Whether the track that this part makes is that of the whole file."""
        return self.start == 0 and self.stop is None and self.file_start == 0 and self.gain_db == 0

    def of_file(self, file: OtherT) -> AudioPart[OtherT]:
        """Return the same part of another file."""
        return AudioPart(file, *self[1:])


Decode = Callable[[Path], Blocks]
"""Opens a file and yields its audio from time 0; closing the iterator closes the file."""


def mixed_parts(parts: Sequence[AudioPart[Path]], sound: SoundFormat, decode: Decode) -> Blocks:
    """Yield the sum of all parts, one or more, from time 0 to the end of the last one; silence is in between.

    Parts of one file that play the same samples at the same time are mixed once. Files are read forward; a file is
    opened again if a part begins before the position up to which it was read.
    """
    if len(parts) == 1 and parts[0].is_whole_track:
        yield from stretch(decode(parts[0].file), sound.rate, parts[0].speed)
        return
    tracks = [_Track(lane, sound, decode).blocks() for lane in _lanes(_without_repetition(parts))]
    while tracks:
        blocks, playing = [], []
        for track in tracks:
            if (block := next(track, None)) is not None:
                blocks.append(block)
                playing.append(track)
        tracks = playing
        if blocks:
            total = np.zeros((sound.num_channels, max(block.shape[1] for block in blocks)), np.float32)
            for block in blocks:
                total[:, : block.shape[1]] += block
            yield total


def equal_blocks(blocks: Blocks, num_samples: int) -> Blocks:
    """Cut an endless track into blocks of `BLOCK_SAMPLES`, `num_samples` samples in all."""
    held = next(blocks)
    for start in range(0, num_samples, BLOCK_SAMPLES):
        num = min(BLOCK_SAMPLES, num_samples - start)
        while held.shape[1] < num:
            held = np.concatenate([held, next(blocks)], axis=1)
        yield held[:, :num]
        held = held[:, num:]


def extract_parts(parts: Sequence[AudioPart[Path]], out: Path, limits: MediaLimits, seconds: float) -> AudioInfo:
    """Write a 16 kHz mono copy of parts of audio files, `seconds` long; see `lipwright.media.audio.extract_speech`.

    The copy is for the mouths. It leaves out the gain of the parts, which does not affect how mouths move.

    Returns:
        Rate and channels of the first file, and the length of the copy.

    Raises:
        MediaError: A file has no usable audio.
        MediaLimitError: A file is longer or larger than allowed.
    """
    infos = [track_info(path, limits) for path in dict.fromkeys(part.file for part in parts)]
    sound = SoundFormat(SPEECH_SAMPLE_RATE, "mono" if all(info.num_channels == 1 for info in infos) else "stereo")
    silence = np.zeros((sound.num_channels, BLOCK_SAMPLES), np.float32)
    num_samples = round(seconds * sound.rate)
    with SpeechWriter(out) as writer:
        plain = [part._replace(gain_db=0.0) for part in parts]
        mixed = mixed_parts(plain, sound, lambda path: decoded(path, sound, limits))
        for block in equal_blocks(chain(mixed, repeat(silence)), num_samples):
            writer.add(np.rint(block * _INT16_SCALE).clip(-_INT16_SCALE, _INT16_SCALE - 1).astype(np.int16))
    return AudioInfo(infos[0].sample_rate, infos[0].num_channels, num_samples / sound.rate, infos[0].codec)


def decoded(path: Path, sound: SoundFormat, limits: MediaLimits) -> Blocks:
    """Yield the audio of a file; closing the iterator closes the file.

    Raises:
        MediaError: It has no usable audio.
        MediaLimitError: It is longer than allowed.
    """
    with closing(AudioTrack(path, limits)) as track:
        yield from track.blocks(sound.rate, sound.layout, "fltp")


def track_info(path: Path, limits: MediaLimits) -> AudioInfo:
    """Return the rate and channels of a file's audio, without decoding it.

    Raises:
        MediaError: The file has no usable audio.
    """
    with closing(AudioTrack(path, limits)) as track:
        return track.info


def _without_repetition(parts: Iterable[AudioPart[Path]]) -> list[AudioPart[Path]]:
    """Join overlapping parts that play the same samples of a file at the same time."""
    joined: list[AudioPart[Path]] = []
    for part in sorted(parts, key=lambda part: (str(part.file), part.start - part.file_start, part.start)):
        last = joined[-1] if joined else None
        is_same = last is not None and last.file == part.file and _offset_and_gain(last) == _offset_and_gain(part)
        if last is not None and is_same and (last.stop is None or part.start <= last.stop):
            stop = None if last.stop is None or part.stop is None else max(last.stop, part.stop)
            joined[-1] = last._replace(stop=stop)
        else:
            joined.append(part)
    return sorted(joined, key=lambda part: part.start)


def _offset_and_gain(part: AudioPart[Path]) -> tuple[float, float]:
    """Return which samples of the file are played when, and how loud."""
    return round(part.start - part.file_start, 6), part.gain_db


def _lanes(parts: Sequence[AudioPart[Path]]) -> list[list[AudioPart[Path]]]:
    """Distribute parts, sorted by start, to as few lanes as possible: of one file, and without overlap."""
    lanes: list[list[AudioPart[Path]]] = []
    for part in parts:
        free = next((lane for lane in lanes if lane[-1].file == part.file and _ends_before(lane[-1], part)), None)
        if free is None:
            lanes.append([part])
        else:
            free.append(part)
    return lanes


def _ends_before(first: AudioPart[Path], then: AudioPart[Path]) -> bool:
    return first.stop is not None and first.stop <= then.start


@dataclass(frozen=True)
class _Track:
    """Plays parts of one file that do not overlap, one after the other."""

    parts: Sequence[AudioPart[Path]]
    sound: SoundFormat
    decode: Decode

    def blocks(self) -> Blocks:
        """Yield blocks of `BLOCK_SAMPLES`, the last one shorter."""
        held = np.zeros((self.sound.num_channels, 0), np.float32)
        for piece in self._pieces():
            held = np.concatenate([held, piece], axis=1)
            while held.shape[1] >= BLOCK_SAMPLES:
                yield held[:, :BLOCK_SAMPLES]
                held = held[:, BLOCK_SAMPLES:]
        if held.shape[1]:
            yield held

    def _pieces(self) -> Blocks:
        position = 0
        reader: _Reader | None = None
        try:
            for part in self.parts:
                start = max(round(part.start * self.sound.rate), position)
                for gap in range(position, start, BLOCK_SAMPLES):
                    yield np.zeros((self.sound.num_channels, min(BLOCK_SAMPLES, start - gap)), np.float32)
                position = start
                first = round(part.file_start * self.sound.rate)
                if reader is None or reader.position > first:
                    if reader is not None:
                        reader.close()
                    reader = _Reader(self.decode(part.file))
                num = None if part.stop is None else round(part.stop * self.sound.rate) - start
                gain = np.float32(10 ** (part.gain_db / 20))
                for piece in _fade(reader.read(first, num), round(_FADE_SECONDS * self.sound.rate), num):
                    yield piece if gain == 1 else piece * gain
                    position += piece.shape[1]
        finally:
            if reader is not None:
                reader.close()


class _Reader:
    """Reads one file forward."""

    def __init__(self, blocks: Blocks) -> None:
        self.position = 0  # of the next sample
        self._blocks = blocks
        self._held: NDArray[np.float32] | None = None

    def read(self, first: int, num: int | None) -> Blocks:
        """Yield `num` samples from `first` on, at or after `position`; fewer at the end, all for None."""
        left = num
        while left is None or left > 0:
            block = self._held if self._held is not None else next(self._blocks, None)
            self._held = None
            if block is None:
                return
            skipped = min(max(first - self.position, 0), block.shape[1])
            taken = block[:, skipped : None if left is None else skipped + left]
            used = skipped + taken.shape[1]
            self.position += used
            if used < block.shape[1]:
                self._held = block[:, used:]
            if taken.shape[1]:
                left = None if left is None else left - taken.shape[1]
                yield taken

    def close(self) -> None:
        """Close the file."""
        close = getattr(self._blocks, "close", None)
        if close is not None:
            close()


def _fade(blocks: Blocks, num_fade: int, num: int | None) -> Blocks:
    """Fade a part in, and out where it is cut off after `num` samples."""
    position = 0
    for block in blocks:
        at = np.arange(position, position + block.shape[1])
        gain = (at + 1) / num_fade
        if num is not None:
            gain = np.minimum(gain, (num - at) / num_fade)
        position += block.shape[1]
        yield (block * np.minimum(gain, 1).astype(np.float32)) if (gain < 1).any() else block
