"""Motion of a still portrait: its head, lids, gaze, brows and smile at a given time of its speech.

Everything is a function of the time, the prosody of the speech around it and a seed from the picture's content. So it
is the same in every run and process, however a result is split into blocks, and a live session moves like a job.

The head wanders, and moves faster and farther while the portrait speaks; it lifts before and drops with stressed
syllables, lifts at the start of a phrase and sinks at its end. Brows rise with it. In some pauses the portrait smiles.
`models.avatar.behaviour` says how much of that it does, with which expression, and where it looks.
`models.avatar.moving_still` draws it; docs/quality.md compares it with real speakers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.media.array_files import load_arrays, save_arrays
from lipwright.media.yuv_frame import YuvFrame
from models.avatar.behaviour import Blended, EyePlace, TimedBehaviour, blend
from models.avatar.blinks import blinks
from models.avatar.still_frame import MAX_TURN, StillFrames
from models.geometry.arrays import smooth_step
from models.speech.level import ROWS_PER_SECOND
from models.speech.prosody import AHEAD_SECONDS, REACH_SECONDS, Prosody
from models.track.face_track import FaceTrack

# Standard deviations in degrees of pitch, yaw and roll in four bands of speech: 1.3 to 1.7 times the medians of twelve
# speakers in the wild (docs/quality.md), because `MAX_TURN`, pauses and the face tracker take a part of them. Nods add
# to the pitch above 1 Hz.
_BANDS: Final = ((0.08, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 3.5))  # Hz
_BAND_STDS: Final = ((3.5, 1.7, 1.7), (1.5, 1.6, 1.5), (0.75, 1.25, 0.9), (0.45, 0.7, 0.3))
# Share of each band that is left in silence.
_IDLE: Final = np.array([0.7, 0.55, 0.4, 0.25])
_TONES: Final = 7  # sines per band
_START_SECONDS: Final = 1.5  # a result starts with the still itself

# Degrees of pitch, chosen by eye: the head nods with stressed syllables, and phrases start with a raised head and end
# with a lowered one.
_NOD, _LIFT, _SINK = 1.3, 0.8, 1.0
_AT_START: Final = (-AHEAD_SECONDS, 0.2, REACH_SECONDS)  # seconds from the start of a phrase: see `_pulses`
# Brows, in eye distances: rise with a pitch accent and at the start of a phrase, and standard deviation of the rest.
# The face tracker sees less than half of what is drawn.
_BROW_ACCENT, _BROW_START, _BROW_NOISE = 0.06, 0.03, 0.021
_BROW_STRESS: Final = 0.4  # share of the rise with an accent for a stress without one

_BREATH_SECONDS: Final = 4.0
_BREATH: Final = 0.014  # eye distances by which the shoulders rise

# The eyes look at the viewer, and sometimes elsewhere: degrees, seconds between shifts of the gaze, share at the
# viewer. In conversation, people look away for most of the time they speak.
_GAZE_STD: Final = (4.2, 2.2)
_MAX_GAZE: Final = 0.026  # eye distances
_FIXATION, _AT_VIEWER = 0.9, 0.5
_SACCADE_SECONDS: Final = 0.05
_EYEBALL: Final = 0.12  # eye distances between the centre of an eye and its iris
_COMPENSATION: Final = 0.85  # share of a turn of the head that eyes fixed on the viewer compensate

# Smiles in pauses, chosen by eye: seconds between changes, seconds that a change takes, share of time without a smile,
# smallest and largest smile.
_SMILE_EVERY, _SMILE_SECONDS, _NO_SMILE, _LEAST_SMILE, _MOST_SMILE = 4.5, 1.2, 0.5, 0.35, 0.7
# No smile where `Prosody.speaking` is above this: from .1 s after the start of a phrase to .35 s after its end. From
# then on a smile grows, until `REACH_SECONDS` after the end.
_SPEAKING: Final = 0.3
_AT_END: Final = (-1 / ROWS_PER_SECOND, 0.0, REACH_SECONDS)  # seconds from the end of a phrase: see `_pulses`
_NO_SMILE_OPENING: Final = 0.05  # eye distances between the lips of the still: teeth are visible

# Eye distances between the face and the border of the picture that allow full motion.
_FREE_MARGIN: Final = 0.15


@dataclass(frozen=True)
class StillMotion:
    """How one portrait moves.

    Attributes:
        seed: From the content of the picture.
        share: Share of the head's motion that the picture has room for, 0 to 1.
        smile: Its broadest smile, 0 (open lips: their corners would gape) to 1 (closed ones).
    """

    seed: int
    share: float
    smile: float

    @classmethod
    def of(cls, still: YuvFrame, track: FaceTrack) -> StillMotion:
        """Return the motion of a portrait, given its one-frame track; the same picture moves in the same way."""
        content = hashlib.sha256(b"".join(plane.tobytes() for plane in still)).digest()
        height, width = still.y.shape
        smile = float(np.clip(1 - track.shape[0, 0] / _NO_SMILE_OPENING, 0, 1))
        return cls(int.from_bytes(content[:4], "little"), _motion_share(track, width, height), smile)

    def frames(
        self,
        seconds: NDArray[np.float64],
        fps: float,
        prosody: Prosody,
        behaviours: Sequence[TimedBehaviour],
        eyes: EyePlace,
    ) -> StillFrames:
        """Return what (T,) frames show.

        Args:
            seconds: (T,) ascending times of the frames.
            fps: Frames per second.
            prosody: Of the speech in these frames.
            behaviours: In order of time; without any, the frames are the still itself.
            eyes: Where the eyes are in the picture.
        """
        wanted = blend(seconds, behaviours, eyes)
        # A face at the border of the picture keeps its place, but blinks, looks around and smiles.
        start = wanted.motion * smooth_step(seconds / _START_SECONDS)
        degrees = self._turn(seconds, prosody)
        degrees[:, :2] += np.stack([wanted.pitch, wanted.yaw], -1)
        turn = self.share * (start * wanted.head)[:, None] * np.radians(degrees)
        turn = MAX_TURN * np.tanh(turn / MAX_TURN)
        wave = 0.5 - 0.5 * np.cos(2 * np.pi * seconds / _BREATH_SECONDS)
        closing = wanted.motion * wanted.closing
        blink = (wanted.motion > 0) * blinks(self.seed, seconds, fps, prosody)
        smile = wanted.smile + (1 - wanted.smile) * wanted.pause_smiles * self._smile(seconds, prosody)
        return StillFrames(
            turn,
            closing + blink * (1 - closing),
            self._gaze(seconds, start, turn, wanted),
            start * self._brows(seconds, prosody) + wanted.motion * wanted.brows,
            wanted.motion * wanted.inner_brows,
            wanted.motion * self.share * _BREATH * wave,
            start * smile,
        )

    def save(self, path: Path) -> None:
        """Write the motion as an .npz."""
        save_arrays(path, self)

    @classmethod
    def load(cls, path: Path) -> StillMotion:
        """Read what `save` wrote."""
        arrays = load_arrays(path)
        return cls(int(arrays["seed"]), float(arrays["share"]), float(arrays["smile"]))

    def _turn(self, seconds: NDArray[np.float64], prosody: Prosody) -> NDArray[np.float64]:
        """Return (T, 3) degrees of pitch (down), yaw and roll."""
        speaking = prosody.speaking.astype(np.float64)[:, None]
        turn = np.zeros((len(seconds), 3))
        for band, idle in zip(self._sways, _IDLE, strict=True):
            turn += (idle + (1 - idle) * speaking) * band.at(seconds)
        stress = prosody.stress.astype(np.float64)
        turn[:, 0] += _NOD * stress
        turn[:, 0] -= _LIFT * _pulses(prosody.starts, seconds, _AT_START)
        turn[:, 0] += _SINK * _pulses(prosody.ends, seconds, (0.0, 0.45, REACH_SECONDS))
        return turn

    def _gaze(
        self,
        seconds: NDArray[np.float64],
        start: NDArray[np.float64],
        turn: NDArray[np.float64],
        wanted: Blended,
    ) -> NDArray[np.float64]:
        """Return (T, 2) shifts of the irises in eye distances; `start` is the (T,) share of the motion."""
        shift = wanted.free[:, None] * self._shifts(1, seconds, (_FIXATION, _SACCADE_SECONDS), _fixation)
        shift += _EYEBALL * np.sin(np.radians(np.stack([wanted.right, wanted.down], -1)))
        gaze = start[:, None] * shift - _COMPENSATION * _EYEBALL * turn[:, [1, 0]]
        return np.asarray(gaze.clip(-_MAX_GAZE, _MAX_GAZE), np.float64)

    def _brows(self, seconds: NDArray[np.float64], prosody: Prosody) -> NDArray[np.float64]:
        """Return (T,) eye distances by which the brows rise."""
        accent = prosody.accent.astype(np.float64)
        rise = _BROW_ACCENT * (accent + _BROW_STRESS * (1 - accent) * prosody.stress)
        rise += _BROW_START * _pulses(prosody.starts, seconds, _AT_START)
        return rise + (0.5 + 0.5 * prosody.speaking) * _BROW_NOISE * self._brow_noise.at(seconds)[:, 0]

    def _smile(self, seconds: NDArray[np.float64], prosody: Prosody) -> NDArray[np.float64]:
        """Return (T,) how far the portrait smiles, 0 to 1."""
        calm = smooth_step(1 - prosody.speaking.astype(np.float64) / _SPEAKING)
        calm *= 1 - _pulses(prosody.ends, seconds, _AT_END)
        return self.smile * calm * self._shifts(5, seconds, (_SMILE_EVERY, _SMILE_SECONDS), _smile_size)[:, 0]

    def _shifts(
        self,
        stream: int,
        seconds: NDArray[np.float64],
        times: tuple[float, float],
        draw: Callable[[np.random.Generator], NDArray[np.float64]],
    ) -> NDArray[np.float64]:
        """Return (T, C) values that change, at random times, to the next one that `draw` returns.

        Args:
            stream: Number of the random stream; those of sways, brows and `models.avatar.blinks` have others.
            seconds: (T,) ascending times of the frames.
            times: Mean seconds between changes, and seconds that a change takes.
            draw: Returns (C,) values.
        """
        every, within = times
        cell = np.floor(seconds / every).astype(np.int64)
        known = np.arange(cell[0] - 1, cell[-1] + 1)
        draws = [np.random.default_rng([self.seed, stream, max(int(number), 0)]) for number in known]
        target = np.array([draw(rng) for rng in draws])  # (F, C)
        start = known * every + np.array([rng.uniform(0, 0.7 * every) for rng in draws])
        place = cell - known[0]  # from 1 on
        moved = smooth_step((seconds - start[place]) / within)[:, None]
        return np.asarray(target[place - 1] + moved * (target[place] - target[place - 1]), np.float64)

    @cached_property
    def _sways(self) -> list[_Sines]:
        rng = np.random.default_rng([self.seed, 0])
        return [_Sines.drawn(rng, band, np.array(stds)) for band, stds in zip(_BANDS, _BAND_STDS, strict=True)]

    @cached_property
    def _brow_noise(self) -> _Sines:
        return _Sines.drawn(np.random.default_rng([self.seed, 2]), (0.1, 1.0), np.ones(1))


def _fixation(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a (2,) shift of the irises."""
    degrees = rng.normal(size=2) * _GAZE_STD
    return np.zeros(2) if rng.random() < _AT_VIEWER else _EYEBALL * np.radians(degrees)


def _smile_size(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a (1,) smile, 0 to 1."""
    size = rng.uniform(_LEAST_SMILE, _MOST_SMILE, 1)
    return np.zeros(1) if rng.random() < _NO_SMILE else size


@dataclass(frozen=True)
class _Sines:
    """Sums of K sines in C channels: smooth noise of one band of frequencies."""

    hertz: NDArray[np.float64]  # (C, K)
    phase: NDArray[np.float64]  # (C, K)
    amplitude: NDArray[np.float64]  # (C, K)

    @classmethod
    def drawn(cls, rng: np.random.Generator, band: tuple[float, float], std: NDArray[np.float64]) -> _Sines:
        """Draw noise between two frequencies, of (C,) standard deviations."""
        # One frequency in each of K equal parts, so that the noise of minutes has the wanted spectrum.
        parts = (np.arange(_TONES) + rng.random((len(std), _TONES))) / _TONES
        weight = rng.rayleigh(size=parts.shape)
        weight *= (std * np.sqrt(2))[:, None] / np.linalg.norm(weight, axis=1, keepdims=True)
        return cls(band[0] + (band[1] - band[0]) * parts, rng.uniform(0, 2 * np.pi, parts.shape), weight)

    def at(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (T, C) values."""
        angle = 2 * np.pi * self.hertz * seconds[:, None, None] + self.phase
        return np.asarray((self.amplitude * np.sin(angle)).sum(-1), np.float64)


def _pulses(
    rows: NDArray[np.int64], seconds: NDArray[np.float64], times: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Return (T,) values: 0, rising to 1 after each of (E,) rows and back; `times` are seconds after the row."""
    start, peak, stop = times
    since = seconds[:, None] - rows / ROWS_PER_SECOND  # (T, E)
    pulse = smooth_step((since - start) / (peak - start)) * (1 - smooth_step((since - peak) / (stop - peak)))
    return np.asarray(1 - np.prod(1 - pulse, 1), np.float64)


def _motion_share(track: FaceTrack, width: int, height: int) -> float:
    """Return the share of motion allowed, 0 to 1: a face at the border stays in place."""
    flat = track.points[0, :, :2]
    margin = min(*flat.min(0), *([width - 1, height - 1] - flat.max(0)))
    return float(np.clip(margin / (_FREE_MARGIN * track.scale[0]), 0, 1))
