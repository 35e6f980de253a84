"""The sound of a result: the speech, on request with the source's own sound and at a given loudness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from av.audio.frame import AudioFrame
from av.filter.context import FilterContext
from av.filter.graph import Graph
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.media.audio_parts import (
    BLOCK_SAMPLES,
    AudioPart,
    Blocks,
    SoundFormat,
    decoded,
    equal_blocks,
    mixed_parts,
    track_info,
)
from lipwright.media.dubbing.time_stretch import pull_frames
from lipwright.media.result.sound_pieces import PieceFiles

_MAX_KEPT_SAMPLES: Final = 1 << 22  # about 90 s, 33 MB: a shorter background is decoded once, however often it repeats
_DUCKING: Final = "threshold=0.03:ratio=4:attack=20:release=400"
_DUCKING_LUFS: Final = -16.0
"""Options of FFmpeg's `sidechaincompress`, and the loudness that speech has for it, so that loud and soft speech lower
the background alike: by 14 to 16 dB (median over the speech of each of nine recordings, as they are and 20 dB softer).
"""
_LIMITER: Final = "limit=0.89:level=0:latency=1"  # -1 dB of full scale: AAC exceeds the peaks of its input a little
_CROSSFADE_SECONDS: Final = 0.03  # between the source's own sound and the speech of a turn
_SILENCE_LUFS: Final = -69.0  # ITU-R BS.1770 ignores what is below -70


class SoundSettings(NamedTuple):
    """How the sound of a result is made; by default it is the speech as it was sent.

    Attributes:
        background_gain_db: Gain of the source's own sound under the speech; None leaves it out.
        loudness_lufs: Integrated loudness of the result (EBU R128); None keeps the levels.
        keeps_source: Whether the source's own sound plays, unchanged, while nobody speaks.
        music_gain_db: Gain of music under all of this; None without music.
    """

    background_gain_db: float | None = None
    loudness_lufs: float | None = None
    keeps_source: bool = False
    music_gain_db: float | None = None

    @property
    def has_background(self) -> bool:
        """Whether the source's own sound is part of the mix."""
        return self.background_gain_db is not None or self.keeps_source


class _Track(NamedTuple):
    """A track beside the speech, and whether speech lowers it."""

    blocks: Blocks
    is_ducked: bool


@dataclass(frozen=True)
class ResultSound:
    """Makes the sound of one result block by block, in bounded memory. No file is opened before it is needed.

    Attributes:
        speech: The caller's files, and when they are played.
        settings: How to mix them.
        background: The source, for settings with its sound.
        music: The music, for settings with its gain.
        limits: Limits on each file.
        language: Language of the speech and the texts (ISO 639-3), if known.
        pieces: Where pieces of it are kept for revisions, if it becomes AAC.
    """

    speech: Sequence[AudioPart[Path]]
    settings: SoundSettings = SoundSettings()
    background: Path | None = None
    music: Path | None = None
    limits: MediaLimits = MediaLimits()
    language: str | None = None
    pieces: PieceFiles | None = None

    def native_format(self) -> tuple[int, int]:
        """Return the highest sample rate of the files, in Hz, and their largest number of channels.

        Raises:
            MediaError: A file has no usable sound.
        """
        others = [path for path in (self._background, self.music) if path is not None]
        paths = [*(part.file for part in self.speech), *others]
        infos = [track_info(path, self.limits) for path in dict.fromkeys(paths)]
        return max(info.sample_rate for info in infos), max(info.num_channels for info in infos)

    @property
    def _background(self) -> Path | None:
        return self.background if self.settings.has_background else None

    def blocks(self, sound: SoundFormat, num_samples: int, max_missing: int) -> Blocks:
        """Yield `num_samples` samples, or more. Silence follows the speech; background and music repeat.

        Args:
            sound: Format of the result.
            num_samples: Length of the result.
            max_missing: Samples by which speech that is not mixed may end earlier.

        Raises:
            MediaError: Nothing can be decoded.
            MediaLimitError: A file is longer than allowed.
        """
        if self.settings == SoundSettings():
            yield from self._plain(sound, num_samples, max_missing)
            return
        gain_db, ducking_db = 0.0, 0.0
        if any(track.is_ducked for track in self._tracks(sound)):
            # In whole decibels, so that one changed text does not change the background everywhere.
            ducking_db = round(_gain_to(_DUCKING_LUFS, self._speech(sound), sound))
        if self.settings.loudness_lufs is not None:
            gain_db = _gain_to(self.settings.loudness_lufs, self._mix(sound, num_samples, gain_db, ducking_db), sound)
        yield from self._mix(sound, num_samples, gain_db, ducking_db)

    def _plain(self, sound: SoundFormat, num_samples: int, max_missing: int) -> Blocks:
        num_missing = num_samples
        for block in self._speech(sound):
            num_missing -= block.shape[1]
            yield block
        if num_missing > max_missing:
            for start in range(0, num_missing, BLOCK_SAMPLES):
                yield np.zeros((sound.num_channels, min(BLOCK_SAMPLES, num_missing - start)), np.float32)

    def _mix(self, sound: SoundFormat, num_samples: int, gain_db: float, ducking_db: float) -> Blocks:
        filters = _Filters(sound)
        silence = np.zeros((sound.num_channels, BLOCK_SAMPLES), np.float32)
        tracks = list(self._tracks(sound))
        num_ducked = sum(track.is_ducked for track in tracks)
        speech = filters.add("asplit", str(num_ducked + 1), filters.input())
        mixed = [self._add_track(filters, track, speech, ducking_db) for track in tracks]
        total = filters.add("amix", f"inputs={1 + len(mixed)}:duration=first:normalize=0", speech, *mixed)
        filters.end(filters.add("alimiter", _LIMITER, filters.add("volume", f"{gain_db}dB", total)))
        inputs = [chain(self._speech(sound), repeat(silence)), *(track.blocks for track in tracks)]
        for frame in filters.run([equal_blocks(blocks, num_samples) for blocks in inputs]):
            yield np.asarray(frame.to_ndarray(), np.float32)

    def _tracks(self, sound: SoundFormat) -> Iterator[_Track]:
        """Yield the endless tracks beside the speech."""
        settings = self.settings
        if self._background is not None:
            blocks = self._scale(self._repeat(self._background, sound), sound)
            yield _Track(blocks, is_ducked=settings.background_gain_db is not None)
        if self.music is not None and settings.music_gain_db is not None:
            gain = np.float32(10 ** (settings.music_gain_db / 20))
            yield _Track((gain * block for block in self._repeat(self.music, sound)), is_ducked=True)

    @staticmethod
    def _add_track(filters: _Filters, track: _Track, speech: FilterContext, ducking_db: float) -> FilterContext:
        """Add a track, which is lowered while somebody speaks if it is ducked; for that, the speech gets a gain."""
        added = filters.input()
        if not track.is_ducked:
            return added
        level = np.clip(10 ** (ducking_db / 20), 1 / 64, 64)  # the range of the option
        return filters.add("sidechaincompress", f"{_DUCKING}:level_sc={level:f}", added, speech)

    def _speech(self, sound: SoundFormat) -> Blocks:
        return mixed_parts(self.speech, sound, lambda path: decoded(path, sound, self.limits))

    def _scale(self, background: Blocks, sound: SoundFormat) -> Blocks:
        """The background with its gain; with `keeps_source`, only while somebody speaks."""
        gain_db = self.settings.background_gain_db
        gain = 0.0 if gain_db is None else 10 ** (gain_db / 20)
        times, gains = np.array(self._gain_curve(gain) if self.settings.keeps_source else ([0.0], [gain]))
        num_done = 0
        for block in background:
            at = np.arange(num_done, num_done + block.shape[1]) / sound.rate
            num_done += block.shape[1]
            yield block * np.interp(at, times, gains).astype(np.float32)

    def _gain_curve(self, gain: float) -> tuple[list[float], list[float]]:
        """Times and gains between which the gain of the background is linear: `gain` in speech, 1 elsewhere."""
        times, gains = [0.0], [1.0]
        for part in sorted(self.speech, key=lambda part: part.start):
            stop = part.stop if part.stop is not None else float("inf")
            if len(times) > 1 and part.start - 2 * _CROSSFADE_SECONDS <= times[-1]:
                if stop + _CROSSFADE_SECONDS > times[-1]:
                    times[-2:] = [stop, stop + _CROSSFADE_SECONDS]
                continue
            times += [max(part.start - _CROSSFADE_SECONDS, 0.0), part.start, stop, stop + _CROSSFADE_SECONDS]
            gains += [1.0, gain, gain, 1.0]
        return times, gains

    def _repeat(self, path: Path, sound: SoundFormat) -> Blocks:
        """Yield a file's sound endlessly; the last block fades out, and the first of a repetition fades in."""
        kept: list[NDArray[np.float32]] = []
        num_samples = 0
        for block in _fading_out(decoded(path, sound, self.limits)):
            num_samples += block.shape[1]
            if num_samples <= _MAX_KEPT_SAMPLES:
                kept.append(block)
            yield block
        while True:
            again = iter(kept) if num_samples <= _MAX_KEPT_SAMPLES else _fading_out(decoded(path, sound, self.limits))
            first = next(again)
            yield first * np.linspace(0, 1, first.shape[1], dtype=np.float32)
            yield from again


class _Filters:
    """A graph of FFmpeg's audio filters; all its inputs and its output have one format."""

    def __init__(self, sound: SoundFormat) -> None:
        self._sound = sound
        self._graph = Graph()
        self._inputs: list[FilterContext] = []
        self._num_linked: dict[str | None, int] = {}

    def input(self) -> FilterContext:
        """Add an input."""
        rate, layout = self._sound
        added = self._graph.add_abuffer(sample_rate=rate, format="fltp", layout=layout, time_base=Fraction(1, rate))
        self._inputs.append(added)
        return added

    def add(self, name: str, options: str, *inputs: FilterContext) -> FilterContext:
        """Add a filter. Of an input with several outputs, the next one that is not linked yet is used."""
        added = self._graph.add(name, options)
        for number, context in enumerate(inputs):
            output = self._num_linked.get(context.name, 0)
            self._num_linked[context.name] = output + 1
            context.link_to(added, output, number)
        return added

    def end(self, last: FilterContext) -> None:
        """Complete the graph with its last filter."""
        rate, layout = self._sound
        self.add(
            "abuffersink",
            "",
            self.add("aformat", f"sample_fmts=fltp:sample_rates={rate}:channel_layouts={layout}", last),
        )
        self._graph.configure()

    def run(self, inputs: Sequence[Blocks]) -> Iterator[AudioFrame]:
        """Yield the output; block n of all inputs, in the order in which they were added, has the same size."""
        num_done = 0
        for blocks in zip(*inputs, strict=True):
            for context, block in zip(self._inputs, blocks, strict=True):
                context.push(_frame(block, self._sound, num_done))
            num_done += blocks[0].shape[1]
            yield from pull_frames(self._graph)
        for context in self._inputs:
            context.push(None)
        yield from pull_frames(self._graph)


def _integrated_loudness(blocks: Blocks, sound: SoundFormat) -> float:
    """Return the loudness of a track in LUFS (ITU-R BS.1770), at least -70."""
    meter, loudness = _Filters(sound), -70.0
    meter.end(meter.add("ebur128", "metadata=1", meter.input()))
    for frame in meter.run([blocks]):
        # The filter measures every 100 ms; a shorter last frame has no value.
        loudness = float(frame.metadata.get("lavfi.r128.I", loudness))
    return loudness


def _gain_to(lufs: float, blocks: Blocks, sound: SoundFormat) -> float:
    """Return the gain in dB that gives a track a loudness; 0 for silence."""
    loudness = _integrated_loudness(blocks, sound)
    return lufs - loudness if loudness > _SILENCE_LUFS else 0.0


def _frame(block: NDArray[np.float32], sound: SoundFormat, position: int) -> AudioFrame:
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=sound.layout)
    frame.sample_rate, frame.pts, frame.time_base = sound.rate, position, Fraction(1, sound.rate)
    return frame


def _fading_out(blocks: Blocks) -> Blocks:
    last = next(blocks)
    for block in blocks:
        yield last
        last = block
    yield last * np.linspace(1, 0, last.shape[1], dtype=np.float32)
