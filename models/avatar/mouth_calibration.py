"""Calibrates the predicted mouth to one speaker: how far the mouth moves, and its posture while it speaks.

The speech-to-mouth network models an average speaker. If the source video has speech, the mouths it shows are compared
with the mouths predicted from that speech, after measuring and removing the audio-video offset. If the offset is known,
the speaking style is learned too (`models.avatar.speaker_adaptation`), and gain and bias are fitted to the adapted
prediction.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lipwright.media.array_files import load_arrays
from models.avatar.source_sync import SourceSync, fast_part, measure_sync, sample_rows
from models.avatar.speaker_adaptation import SpeakerAdaptation, learn
from models.mouth.closures import close_lips
from models.mouth.motion import lip_jitter
from models.mouth.shape import CHANNELS, NUM_CHANNELS
from models.speech.level import ROWS_PER_SECOND

if TYPE_CHECKING:
    from models.speech.speech_to_mouth import MouthBlock
    from models.track.face_track import FaceTrack

# Channel whose movement is compared.
_COMPARED = CHANNELS.index("open_in")
# Channels that follow it.
_FOLLOWING = [CHANNELS.index(name) for name in ("open_out", "upper", "lower", "jaw")]
# The opening channels are linearly dependent (open_in + open_out = 2 (upper + lower)), so they share one gain.
_OPENING = [CHANNELS.index(name) for name in ("open_in", "open_out", "upper", "lower", "jaw")]
_WIDTH = CHANNELS.index("width")
# Lips that round come forward. Protrusion is tracked too badly to be compared, so it gets the gain of the width.
_ROUNDING = [CHANNELS.index(name) for name in ("width", "protrude")]
_CORNER = CHANNELS.index("corner_y")
_HELD = [CHANNELS.index(name) for name in ("width", "protrude", "corner_y")]
_CORNER_GAIN = 1.3  # regression underestimates the movement of the corners
# Mouths narrow by at most this much, in eye distances: the .5 % quantile of sixteen GRID speakers and nine in the wild
# is .02 to .15, with one exception (.19).
_NARROWEST = 0.15
# Share of the speaker's mean offset that is applied.
_HELD_SHARE = 0.6
# A mouth that moves less than this, in eye distances, does not speak.
_MIN_TALKING_STD = 0.012
_MIN_FRAMES = 12


class _Prior(NamedTuple):
    """Prior of a movement, before the speaker is observed.

    Attributes:
        ratio: Usual movement relative to the prediction.
        seconds: Weight: this many seconds of a usual movement, so that little speech, or speech that hardly moves the
            mouth, changes little.
        std: Standard deviation of that movement, in eye distances.
        min_ratio: Smallest ratio of any speaker.
        max_ratio: Largest ratio of any speaker.
    """

    ratio: float
    seconds: float
    std: float
    min_ratio: float
    max_ratio: float

    def energy(self, fps: Fraction) -> float:
        """Return the sum of squares that the prior counts as."""
        return self.seconds * float(fps) * self.std**2

    def ratio_of(self, shown: NDArray[np.floating], spoken: NDArray[np.floating], fps: Fraction) -> float:
        """Return the ratio of two movements, shrunk towards the usual one.

        Both variances get the same number of prior observations, as with a conjugate prior.
        """
        prior = self.energy(fps)
        shown_energy, spoken_energy = (len(movement) * float(movement.var()) for movement in (shown, spoken))
        ratio = ((shown_energy + prior * self.ratio**2) / (spoken_energy + prior)) ** 0.5
        return float(np.clip(ratio, self.min_ratio, self.max_ratio))


# The network learned from readers of short sentences: geometric mean of six such readers (.95) and nine speakers in the
# wild (1.37). Of .3 to 4 seconds, .6 best predicts how far eight GRID speakers open their mouths in sentences other
# than the .8 to 12 seconds that were seen: error of the ratio 13 % (17 % with .7 of the logarithm and of further
# channels, 23 % with none).
_OPENING_PRIOR = _Prior(ratio=1.18, seconds=0.6, std=0.05, min_ratio=0.5, max_ratio=2.0)
# Median of seventeen speakers in the wild (1 to 4). As rendered, silent sources then move by .85 and 1.08 of the width
# of two GRID speakers unknown to the network; with 1.3 by .59 and .71. Mouths that are wide for the face do not move
# further: across sixteen GRID speakers, both are uncorrelated (-.2). Of .3 to 100 seconds, 2.5 best predicts the ratio
# of eight GRID speakers from one of their other sentences: error 25 % (31 % with .3, 29 % with 100).
_WIDTH_PRIOR = _Prior(ratio=2.1, seconds=2.5, std=0.02, min_ratio=0.8, max_ratio=3.0)


@dataclass(frozen=True)
class OwnSpeech:
    """Measurements on the speech in a source.

    Attributes:
        sync: Audio-video offset.
        opening_std: Standard deviation of the opening in its speech; None if it does not talk.
        jitter: Root mean square of `models.mouth.motion.lip_jitter` in its speech; None if it does not talk.
        learned_seconds: Speech that the speaker adaptation was learned from; 0 if none was.
    """

    sync: SourceSync
    opening_std: float | None
    jitter: float | None
    learned_seconds: float = 0.0


@dataclass(frozen=True)
class MouthCalibration:
    """Correction of predicted mouth shapes for one speaker.

    Attributes:
        gain: (8,) float32 factor of each channel.
        bias: (8,) float32 offset of each channel during speech, in eye distances.
        follow: (8,) float32 share of the corrected opening that is added to each channel.
        is_fitted: Whether it was fitted to the source's own speech; otherwise it is that of an average speaker.
        own_speech: Measurements on the source's own audio; None if it has none.
        adaptation: Deviation of this mouth from the average speaker's, applied before the gain.
    """

    gain: NDArray[np.float32]
    bias: NDArray[np.float32]
    is_fitted: bool = False
    own_speech: OwnSpeech | None = None
    follow: NDArray[np.float32] = field(default_factory=lambda: np.zeros(NUM_CHANNELS, np.float32))
    adaptation: SpeakerAdaptation = field(default_factory=SpeakerAdaptation.unknown)

    @classmethod
    def default(cls) -> MouthCalibration:
        """Return the calibration of a source without usable speech."""
        return cls(_gains(_OPENING_PRIOR.ratio, _WIDTH_PRIOR.ratio), np.zeros(NUM_CHANNELS, np.float32))

    def apply(self, mouth: MouthBlock) -> NDArray[np.float32]:
        """Return the corrected (T, 8) float32 shapes of a predicted mouth; silence stays at rest.

        Lips that are known to be closed are closed afterwards.
        """
        scaled = self.adaptation.applied(mouth.shape, mouth.hidden) * self.gain
        following = scaled[:, _COMPARED, None] * self.follow
        shape = np.asarray(scaled + following + mouth.gate[:, None] * self.bias, np.float32)
        narrowed = np.minimum(shape[:, _WIDTH], 0)
        shape[:, _WIDTH] += _NARROWEST * np.tanh(narrowed / _NARROWEST) - narrowed
        if mouth.closed is not None:
            close_lips(shape, shape[:, _COMPARED, None].clip(0) * mouth.closed[:, None])
        return shape

    def save(self, path: Path) -> None:
        """Write an .npz file atomically."""
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
        """Read what `save` wrote."""
        stored = load_arrays(path)
        numbers = [None if np.isnan(value) else float(value) for value in stored["own"]]
        own = OwnSpeech(SourceSync(*numbers[:-3]), *numbers[-3:]) if numbers else None  # type: ignore[arg-type]
        adaptation = SpeakerAdaptation(stored["own_way"])
        return cls(stored["gain"], stored["bias"], bool(stored["is_fitted"]), own, stored["follow"], adaptation)


def calibrate_on_sound(track: FaceTrack, talks: bool, fps: Fraction, sound: MouthBlock) -> MouthCalibration:
    """Calibrate a source on its own audio, after measuring its audio-video offset.

    Args:
        track: The face in the source's N frames.
        talks: Whether the source shows a moving mouth; if not, only the offset is measured.
        fps: Frame rate of the source.
        sound: Uncorrected mouth predicted from the source's own audio, in rows of 20 ms from its start.
    """
    tracked, present = track.shape, track.visible
    sync = measure_sync(tracked, present, fps, sound.shape, sound.gate)
    if not talks:
        return replace(MouthCalibration.default(), own_speech=OwnSpeech(sync, None, None))
    times = np.arange(len(tracked)) / float(fps) + (sync.offset_seconds or 0.0)
    is_heard = (times >= 0) & (times < len(sound.gate) / ROWS_PER_SECOND)
    has_speech = present & is_heard & (sample_rows(sound.gate, times) > 0.5)
    predicted, adaptation, learned_seconds = sample_rows(sound.shape, times), SpeakerAdaptation.unknown(), 0.0
    learned_from = has_speech & (track.driving_weight >= 1)
    if sync.offset_seconds is not None and learned_from.sum() >= _MIN_FRAMES:
        # With an unknown offset the adaptation would learn from mismatched audio.
        residual = (tracked - predicted)[learned_from]
        adaptation, offset = learn(sample_rows(sound.hidden, times)[learned_from], residual, float(fps))
        predicted[learned_from] += offset
        learned_seconds = float(learned_from.sum() / fps)
    calibration = calibrate(predicted, tracked, has_speech, fps)
    if not calibration.is_fitted:
        adaptation, learned_seconds = SpeakerAdaptation.unknown(), 0.0
    opening = tracked[has_speech, _COMPARED]
    jitter = lip_jitter(tracked, has_speech, fps, track.shot).rms
    own = OwnSpeech(sync, float(opening.std()) if len(opening) else None, jitter, learned_seconds)
    return replace(calibration, own_speech=own, adaptation=adaptation)


def calibrate(
    predicted: NDArray[np.float32], tracked: NDArray[np.float32], has_speech: NDArray[np.bool_], fps: Fraction
) -> MouthCalibration:
    """Fit the calibration: compare the mouths of a talking source with those predicted from its own audio.

    Args:
        predicted: (N, 8) uncorrected predicted shape of each source frame.
        tracked: (N, 8) shape shown by each frame, as offset from the rest shape.
        has_speech: (N,) frames in which the face is visible and the audio has speech (`MouthBlock.gate` > 0.5).
        fps: Frames per second.

    Returns:
        The calibration; the default one if fewer than 12 frames have speech, or if the tracked or the predicted mouth
        hardly moves in them.
    """
    if not predicted.shape == tracked.shape == (len(has_speech), NUM_CHANNELS):
        raise ValueError(f"Expected (N, 8), (N, 8), (N,), got {predicted.shape}, {tracked.shape}, {has_speech.shape}.")
    spoken, shown = predicted[has_speech], tracked[has_speech]
    opening = shown[:, _COMPARED], spoken[:, _COMPARED]
    if len(shown) < _MIN_FRAMES or min(each.std() for each in opening) < _MIN_TALKING_STD:
        return MouthCalibration.default()
    # The fast part only: a smile that comes and goes, or a head that turns, is not speech.
    shown_width, spoken_width = (
        fast_part(each[:, [_WIDTH]], has_speech, float(fps))[has_speech] for each in (tracked, predicted)
    )
    gain = _gains(_OPENING_PRIOR.ratio_of(*opening, fps), _WIDTH_PRIOR.ratio_of(shown_width, spoken_width, fps))
    follow = np.zeros(NUM_CHANNELS, np.float32)
    follow[_FOLLOWING] = _slopes(shown, spoken, fps) - _slopes(spoken, spoken, fps)
    bias = np.zeros(NUM_CHANNELS, np.float32)
    corrected = spoken * gain
    bias[_HELD] = _HELD_SHARE * (shown - corrected).mean(0)[_HELD]
    return MouthCalibration(gain, bias, is_fitted=True, follow=follow)


def _slopes(shown: NDArray[np.float32], usual: NDArray[np.float32], fps: Fraction) -> NDArray[np.float32]:
    """Return the slopes of the following channels per unit of opening, shrunk towards those of `usual`."""
    prior = _OPENING_PRIOR.energy(fps)
    products = [_with_opening(shape) for shape in (shown, usual)]
    usual_slopes = products[1][_FOLLOWING] / products[1][_COMPARED]
    slopes = (products[0][_FOLLOWING] + prior * usual_slopes) / (products[0][_COMPARED] + prior)
    return np.asarray(slopes, np.float32)


def _with_opening(shape: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the (8,) sums of products with the opening; not centred, as closed lips put all channels at rest."""
    product: NDArray[np.float64] = shape.astype(np.float64).T @ shape[:, _COMPARED]
    return product


def _gains(opening: float, width: float) -> NDArray[np.float32]:
    gain = np.ones(NUM_CHANNELS, np.float32)
    gain[_OPENING] = opening
    gain[_ROUNDING] = width
    gain[_CORNER] = _CORNER_GAIN
    return gain
