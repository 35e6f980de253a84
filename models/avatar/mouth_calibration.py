"""Fits the predicted mouth to one talker: how far this mouth moves, and how it is held while it speaks.

The speech-to-mouth network knows an average talker. Where the source video has its own speech, the mouths that it shows
are compared with the mouths that the network predicts from that speech, each with the sound that belongs to it: where
the source's sound comes late or early, its offset is measured and taken out. Where that offset is known, the talker's
own way of speaking is learned too (`models.avatar.adaptation`); size and hold are then those of what it says.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from media.array_files import load_arrays
from models.avatar.source_sync import SourceSync, measure_sync, sample_rows
from models.avatar.speaker_adaptation import SpeakerAdaptation, learn
from models.mouth.motion import lip_jitter
from models.mouth.shape import CHANNELS, NUM_CHANNELS
from models.speech.level import ROWS_PER_SECOND

if TYPE_CHECKING:
    from models.speech.speech_to_mouth import MouthBlock
    from models.track.face_track import FaceTrack

# The channel whose movement is compared.
_COMPARED = CHANNELS.index("open_in")
# Those that go with it.
_FOLLOWING = [CHANNELS.index(name) for name in ("open_out", "upper", "lower", "jaw")]
# The channels of opening are tied to each other (open_in + open_out = 2 (upper + lower)): they share one gain.
_OPENING = [CHANNELS.index(name) for name in ("open_in", "open_out", "upper", "lower", "jaw")]
_SPREADING = [CHANNELS.index(name) for name in ("width", "corner_y")]
_HELD = [CHANNELS.index(name) for name in ("width", "protrude", "corner_y")]
_SPREADING_GAIN = 1.3  # a regression predicts too little movement of the corners
# How far mouths open, beside what a network that learned from readers of short sentences predicts: the geometric mean
# of six of those (.95) and nine talkers in the wild (1.37).
_USUAL_OPENING = 1.18
# What is known before a talker is seen weighs as much as this many seconds of a mouth that moves as is usual, with an
# opening of this standard deviation: little speech, or speech that hardly opens the mouth, changes little. Of .3 to 4
# seconds, .6 foretells best how far eight GRID talkers open their mouths in other sentences than the .8 to 12 seconds
# that were seen: error of the ratio 13 % (17 % with .7 of the logarithm and of further channels, 23 % with none).
_PRIOR_SECONDS, _PRIOR_STD = 0.6, 0.05
_MIN_RATIO, _MAX_RATIO = 0.5, 2.0
# Share of the talker's mean offset that is taken over.
_HELD_SHARE = 0.6
# Less movement than this, in eye distances, is a mouth that does not speak.
_MIN_TALKING_STD = 0.012
_MIN_FRAMES = 12


@dataclass(frozen=True)
class OwnSpeech:
    """What a source shows of its own speech.

    Attributes:
        sync: How far its sound stands from its picture.
        opening_std: Standard deviation of the opening in its speech; None if it does not talk.
        jitter: Root mean square of `mouth_motion.lip_jitter` in its speech; None if it does not talk.
        learned_seconds: Speech that its own way of speaking was learned from; 0 where none was.
    """

    sync: SourceSync
    opening_std: float | None
    jitter: float | None
    learned_seconds: float = 0.0


@dataclass(frozen=True)
class MouthCalibration:
    """One talker's correction of predicted mouth shapes.

    Attributes:
        gain: (8,) float32 factor of each channel.
        bias: (8,) float32 offset of each channel while speaking, in eye distances.
        follow: (8,) float32 share of the corrected opening that is added to each channel.
        is_fitted: Whether it comes from the source's own speech; otherwise it is that of an average talker.
        own_speech: What was measured on the source's own sound; None if it has none.
        adaptation: What its mouth does beyond the average talker's, before the gain.
    """

    gain: NDArray[np.float32]
    bias: NDArray[np.float32]
    is_fitted: bool = False
    own_speech: OwnSpeech | None = None
    follow: NDArray[np.float32] = field(default_factory=lambda: np.zeros(NUM_CHANNELS, np.float32))
    adaptation: SpeakerAdaptation = field(default_factory=SpeakerAdaptation.unknown)

    @classmethod
    def default(cls) -> MouthCalibration:
        """For a source of whose speech nothing is known."""
        return cls(_gains(_USUAL_OPENING), np.zeros(NUM_CHANNELS, np.float32))

    def apply(self, mouth: MouthBlock) -> NDArray[np.float32]:
        """Returns the shapes of a predicted mouth of T frames, corrected, as (T, 8) float32; silence stays at rest."""
        scaled = self.adaptation.applied(mouth.shape, mouth.hidden) * self.gain
        following = scaled[:, _COMPARED, None] * self.follow
        return np.asarray(scaled + following + mouth.gate[:, None] * self.bias, np.float32)

    def save(self, path: Path) -> None:
        """Writes an .npz file, whole or not at all."""
        own = self.own_speech
        numbers = [] if own is None else [*vars(own.sync).values(), own.opening_std, own.jitter, own.learned_seconds]
        partial = path.with_name(f"{path.name}.part")
        with partial.open("wb") as file:
            # None becomes NaN.
            np.savez(
                file,
                gain=self.gain,
                bias=self.bias,
                follow=self.follow,
                is_fitted=self.is_fitted,
                own=np.array(numbers, np.float64),
                own_way=self.adaptation.weights,
            )
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> MouthCalibration:
        """Reads what `save` wrote."""
        stored = load_arrays(path)
        numbers = [None if np.isnan(value) else float(value) for value in stored["own"]]
        own = OwnSpeech(SourceSync(*numbers[:-3]), *numbers[-3:]) if numbers else None  # type: ignore[arg-type]
        way = SpeakerAdaptation(stored["own_way"])
        return cls(stored["gain"], stored["bias"], bool(stored["is_fitted"]), own, stored["follow"], way)


def calibrate_on_sound(track: FaceTrack, talks: bool, fps: Fraction, sound: MouthBlock) -> MouthCalibration:
    """Calibrates a source on its own sound, after measuring how far that stands from its picture.

    Args:
        track: The face in the source's N frames.
        talks: Whether they show a mouth that opens and closes; if not, the offset alone is measured.
        fps: Frame rate of the source.
        sound: The mouth predicted from the source's own sound, not corrected, in rows of 20 ms from its start.
    """
    tracked, present = track.shape, track.present
    sync = measure_sync(tracked, present, fps, sound.shape, sound.gate)
    if not talks:
        return replace(MouthCalibration.default(), own_speech=OwnSpeech(sync, None, None))
    times = np.arange(len(tracked)) / float(fps) + (sync.offset_seconds or 0.0)
    is_heard = (times >= 0) & (times < len(sound.gate) / ROWS_PER_SECOND)
    has_speech = present & is_heard & (sample_rows(sound.gate, times) > 0.5)
    predicted, way, learned_seconds = sample_rows(sound.shape, times), SpeakerAdaptation.unknown(), 0.0
    learned_from = has_speech & (track.trust >= 1)
    if sync.offset_seconds is not None and learned_from.sum() >= _MIN_FRAMES:
        # A mouth that is compared with another time's sound would teach that speech says nothing.
        beyond = (tracked - predicted)[learned_from]
        way, offset = learn(sample_rows(sound.hidden, times)[learned_from], beyond, float(fps))
        predicted[learned_from] += offset
        learned_seconds = float(learned_from.sum() / fps)
    calibration = calibrate(predicted, tracked, has_speech, fps)
    if not calibration.is_fitted:
        way, learned_seconds = SpeakerAdaptation.unknown(), 0.0
    opening = tracked[has_speech, _COMPARED]
    jitter = lip_jitter(tracked, has_speech, fps, track.shot).rms
    own = OwnSpeech(sync, float(opening.std()) if len(opening) else None, jitter, learned_seconds)
    return replace(calibration, own_speech=own, adaptation=way)


def calibrate(
    predicted: NDArray[np.float32], tracked: NDArray[np.float32], has_speech: NDArray[np.bool_], fps: Fraction
) -> MouthCalibration:
    """Compares a talking source's mouths with those predicted from its own sound.

    Args:
        predicted: (N, 8) predicted shape of each source frame, not corrected.
        tracked: (N, 8) shape that the frame shows, as offset from the talker's rest.
        has_speech: (N,) frames in which the face is present and its sound has speech (`MouthBlock.gate` > 0.5).
        fps: Frames a second.

    Returns:
        The correction, or the default one if fewer than 12 frames have speech, or the mouth hardly moves in them,
        seen or predicted.
    """
    if not predicted.shape == tracked.shape == (len(has_speech), NUM_CHANNELS):
        raise ValueError(f"Expected (N, 8), (N, 8), (N,), got {predicted.shape}, {tracked.shape}, {has_speech.shape}.")
    spoken, shown = predicted[has_speech], tracked[has_speech]
    opening = shown[:, _COMPARED], spoken[:, _COMPARED]
    if len(shown) < _MIN_FRAMES or min(each.std() for each in opening) < _MIN_TALKING_STD:
        return MouthCalibration.default()
    gain = _gains(_movement_ratio(*opening, fps))
    follow = np.zeros(NUM_CHANNELS, np.float32)
    follow[_FOLLOWING] = _slopes(shown, spoken, fps) - _slopes(spoken, spoken, fps)
    bias = np.zeros(NUM_CHANNELS, np.float32)
    corrected = spoken * gain
    bias[_HELD] = _HELD_SHARE * (shown - corrected).mean(0)[_HELD]
    return MouthCalibration(gain, bias, is_fitted=True, follow=follow)


def _prior(fps: Fraction) -> float:
    """Sum of squares of the opening that what is known beforehand counts as."""
    return _PRIOR_SECONDS * float(fps) * _PRIOR_STD**2


def _slopes(shown: NDArray[np.float32], usual: NDArray[np.float32], fps: Fraction) -> NDArray[np.float32]:
    """How far the following channels go with an opening of 1, the nearer to `usual` the less has been seen."""
    prior = _prior(fps)
    products = [_with_opening(shape) for shape in (shown, usual)]
    usual_slopes = products[1][_FOLLOWING] / products[1][_COMPARED]
    slopes = (products[0][_FOLLOWING] + prior * usual_slopes) / (products[0][_COMPARED] + prior)
    return np.asarray(slopes, np.float32)


def _with_opening(shape: NDArray[np.float32]) -> NDArray[np.float64]:
    """(8,) sums of products with the opening: of offsets from rest, where shut lips leave the other channels too."""
    product: NDArray[np.float64] = shape.astype(np.float64).T @ shape[:, _COMPARED]
    return product


def _movement_ratio(shown: NDArray[np.float32], spoken: NDArray[np.float32], fps: Fraction) -> float:
    """Ratio of two movements of an opening, the nearer to the usual one the less has been seen.

    Both variances come with the same number of earlier observations, as in a conjugate estimate.
    """
    prior = _prior(fps)
    shown_energy, spoken_energy = (len(opening) * float(opening.var()) for opening in (shown, spoken))
    ratio = ((shown_energy + prior * _USUAL_OPENING**2) / (spoken_energy + prior)) ** 0.5
    return float(np.clip(ratio, _MIN_RATIO, _MAX_RATIO))


def _gains(opening: float) -> NDArray[np.float32]:
    gain = np.ones(NUM_CHANNELS, np.float32)
    gain[_OPENING] = opening
    gain[_SPREADING] = _SPREADING_GAIN
    return gain
