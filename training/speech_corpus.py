"""Reads the corpora that teach the mouth: tracked talkers, and synthetic speech with the times of its phones.

The folder holds `grid_s1` and `grid_talkers` (.flac: all clips in a row at 16 kHz; .npz: `audio_offset`,
`frame_offset`, `measures` (frames, 8) of `models.mouth.shape` at 25 fps, `rest`, `names`, `talkers`), `javanese` (the
same with `fps` and without `rest`, written by `training.track_speakers`) and `synth.flac` with `synth_units.json`
(`audio_offset`, `names`, and `units`: symbol, start and end of each phone).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from models.mouth.shape import CHANNELS, DEFAULT_SCALE
from models.speech.level import ROWS_PER_SECOND
from training.mouth_table import PAUSE, Phone, shape_phones

Floats = NDArray[np.float32]

_OPEN = CHANNELS.index("open_in")
GRID, JAVANESE = ("grid_s1", "grid_talkers"), ("javanese",)
_GRID_FPS = 25.0
# The first talker of GRID has four times as many clips as the others together.
_FIRST_TALKER = "s1"
# Lips nearer than this, in eye distances, touch.
_CONTACT = 0.018
# A mouth counts as closed within this much of the smallest openings of a clip.
_CLOSED_QUANTILE, _CLOSED_MARGIN, _MIN_CLOSED = 0.03, 0.015, 5
# In the Japanese utterances every a is labelled as a pause: they would teach closed lips in the widest vowel.
_MISLABELLED = "espeak_ja"
# The lips part and meet in the edges of a pause.
_PAUSE_EDGE, _MIN_PAUSE = 0.05, 0.12


@dataclass(frozen=True)
class Utterance:
    """Speech with its mouth.

    Attributes:
        name: Name of the talker, or of the synthetic utterance.
        samples: (N,) float32 at 16 kHz.
        track: (T, 9) float32: eight channels in units of the talker's own deviations, and 1 where the lips touch.
        rate: Rows of `track` a second.
        first_row: Row of `track` at the start of the sound.
    """

    name: str
    samples: Floats
    track: Floats
    rate: float
    first_row: float = 0.0

    def at_rows(self, num_rows: int, factor: float = 1.0) -> Floats:
        """The track at 50 rows a second, as (num_rows, 9), of the sound played `factor` times as fast."""
        time = self.first_row + np.arange(num_rows) * factor * self.rate / ROWS_PER_SECOND
        rows = np.stack([np.interp(time, np.arange(len(self.track)), channel) for channel in self.track.T], 1)
        rows[:, -1] = rows[:, -1] > 0.5
        return rows.astype(np.float32)

    def shifted(self, num_rows: float) -> Utterance:
        """The utterance with what the track shows `num_rows` rows of 20 ms later."""
        return replace(self, first_row=self.first_row + num_rows * self.rate / ROWS_PER_SECOND)


class _Clip(NamedTuple):
    """A clip of a talker: (N,) samples and (T, 8) offsets from the closed mouth."""

    talker: str
    samples: Floats
    shape: Floats
    fps: float


def read_talkers(folder: Path, corpora: Sequence[str] = GRID) -> tuple[list[Utterance], dict[str, Floats]]:
    """Reads the tracked talkers of some corpora.

    Returns:
        Their clips, and the (8,) standard deviation of each talker in eye distances, by which the tracks are divided.
    """
    clips = [clip for name in corpora for clip in _read_clips(folder / name)]
    scales: dict[str, Floats] = {
        talker: np.mean([clip.shape.std(0) for clip in clips if clip.talker == talker], 0)
        for talker in sorted({clip.talker for clip in clips})
    }
    return [_talker_utterance(clip, scales[clip.talker]) for clip in clips], scales


def read_synthetic(folder: Path) -> list[Utterance]:
    """Reads the synthetic speech; its mouths come from the table of phones.

    Languages whose phones are mislabelled are left out.
    """
    samples, _ = soundfile.read(folder / "synth.flac", dtype="float32")
    listed = json.loads((folder / "synth_units.json").read_text())
    ends = listed["audio_offset"]
    cuts = [samples[start:end] for start, end in zip(ends, ends[1:], strict=False)]
    rows = zip(listed["names"], cuts, listed["units"], strict=True)
    return [
        _table_utterance(name, sound, [(symbol, start, end) for symbol, start, end in units])
        for name, sound, units in rows
        if not name.startswith(_MISLABELLED)
    ]


def _read_clips(stem: Path) -> list[_Clip]:
    samples, _ = soundfile.read(stem.with_suffix(".flac"), dtype="float32")
    with np.load(stem.with_suffix(".npz")) as stored:
        sounds, frames, measures = stored["audio_offset"], stored["frame_offset"], stored["measures"]
        rest = stored["rest"] if "rest" in stored else np.zeros(len(measures), np.bool_)
        talkers = stored["talkers"] if "talkers" in stored else [_FIRST_TALKER] * (len(sounds) - 1)
        fps = float(stored["fps"]) if "fps" in stored else _GRID_FPS
    clips = []
    for index, talker in enumerate(talkers):
        frame = slice(frames[index], frames[index + 1])
        shape = measures[frame] - _closed_mouth(measures[frame], rest[frame])
        clips.append(_Clip(str(talker), samples[sounds[index] : sounds[index + 1]], shape, fps))
    return clips


def _closed_mouth(measures: Floats, rest: NDArray[np.bool_]) -> Floats:
    """The (8,) closed mouth of a clip; some talkers rest with their lips apart."""
    opening = measures[:, _OPEN]
    closed = opening < np.quantile(opening, _CLOSED_QUANTILE) + _CLOSED_MARGIN
    chosen = closed & rest if (closed & rest).sum() >= _MIN_CLOSED else closed
    middle: Floats = np.median(measures[chosen], 0)
    return middle


def _talker_utterance(clip: _Clip, scale: Floats) -> Utterance:
    touch = (clip.shape[:, _OPEN] < _CONTACT)[:, None]
    track = np.hstack([clip.shape / scale, touch]).astype(np.float32)
    return Utterance(clip.talker, clip.samples, track, clip.fps)


def _table_utterance(name: str, samples: Floats, phones: list[Phone]) -> Utterance:
    num_rows = max(1, int(len(samples) / 16000 * ROWS_PER_SECOND))
    shape, touch = shape_phones(phones, num_rows)
    for symbol, start, end in phones:
        if symbol == PAUSE and end - start > _MIN_PAUSE:
            touch[int((start + _PAUSE_EDGE) * ROWS_PER_SECOND) : int((end - _PAUSE_EDGE) * ROWS_PER_SECOND)] = True
    track = np.hstack([shape / DEFAULT_SCALE, touch[:, None]]).astype(np.float32)
    return Utterance(name, samples, track, ROWS_PER_SECOND)
