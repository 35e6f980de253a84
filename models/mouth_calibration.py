"""Fits the predicted mouth to one talker: how far this mouth moves, and how it is held while it speaks.

The speech-to-mouth network knows an average talker. Where the source video has its own speech, the mouths that it shows
are compared with the mouths that the network predicts from that speech.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.mouth_shape import CHANNELS, NUM_CHANNELS, TRACKED_GAIN

# Channels whose movement is compared: large, and tracked well.
_COMPARED = [CHANNELS.index(name) for name in ("open_in", "open_out", "lower", "jaw")]
# The channels of opening are tied to each other (open_in + open_out = 2 (upper + lower)): they share one gain.
_OPENING = [CHANNELS.index(name) for name in ("open_in", "open_out", "upper", "lower", "jaw")]
_SPREADING = [CHANNELS.index(name) for name in ("width", "corner_y")]
_HELD = [CHANNELS.index(name) for name in ("width", "protrude", "corner_y")]
# A regression predicts too little movement of the corners. The opening of lips that are drawn apart needs no gain:
# with 1.15 silent sources opened 1.2 to 1.5 times as far as the talker did.
_DEFAULT_OPENING_GAIN, _SPREADING_GAIN = 1.0, 1.3
# Of the measured ratio of movement, raised to .7, as a full correction enlarges the errors as well.
_MIN_RATIO, _MAX_RATIO, _RATIO_POWER = 0.5, 2.0, 0.7
_MIN_PREDICTED_STD = 0.01
# Share of the talker's mean offset that is taken over.
_HELD_SHARE = 0.6
# Less movement than this, in eye distances, is a mouth that does not speak.
_MIN_TALKING_STD = 0.012
_MIN_FRAMES = 12


@dataclass(frozen=True)
class MouthCalibration:
    """One talker's correction of predicted mouth shapes.

    Attributes:
        gain: (8,) float32 factor of each channel.
        bias: (8,) float32 offset of each channel while speaking, in eye distances.
    """

    gain: NDArray[np.float32]
    bias: NDArray[np.float32]

    @classmethod
    def default(cls) -> MouthCalibration:
        """For a source that shows no open mouth: closed lips are tracked where they are, so true sizes are drawn."""
        return cls(_gains(_DEFAULT_OPENING_GAIN), np.zeros(NUM_CHANNELS, np.float32))

    @classmethod
    def of_talker(cls) -> MouthCalibration:
        """For a talking source of which nothing else is known, as its sound is missing or somebody else's.

        Its open mouths are tracked smaller than they are, so the predicted ones are made smaller by as much.
        """
        return cls(_gains(_DEFAULT_OPENING_GAIN) * TRACKED_GAIN, np.zeros(NUM_CHANNELS, np.float32))

    def apply(self, shape: NDArray[np.float32], gate: NDArray[np.float32]) -> NDArray[np.float32]:
        """Corrects mouth shapes; silence stays at rest.

        Args:
            shape: (T, 8) offsets from rest in eye distances.
            gate: (T,) 1 in speech, 0 in silence.

        Returns:
            (T, 8) float32.
        """
        return (shape * self.gain + gate[:, None] * self.bias).astype(np.float32)


def calibrate(
    predicted: NDArray[np.float32], tracked: NDArray[np.float32], has_speech: NDArray[np.bool_]
) -> MouthCalibration:
    """Compares a talking source's mouths with those predicted from its own sound.

    Args:
        predicted: (N, 8) predicted shape of each source frame, not corrected.
        tracked: (N, 8) shape that the frame shows, as offset from the talker's rest.
        has_speech: (N,) frames in which the face is present and its sound has speech (`MouthBlock.gate` > 0.5).

    Returns:
        The correction, or the default one if fewer than 12 frames have speech, or the mouth hardly moves in them.
    """
    if not predicted.shape == tracked.shape == (len(has_speech), NUM_CHANNELS):
        raise ValueError(f"Expected (N, 8), (N, 8), (N,), got {predicted.shape}, {tracked.shape}, {has_speech.shape}.")
    spoken, shown = predicted[has_speech] * TRACKED_GAIN, tracked[has_speech]
    if len(shown) < _MIN_FRAMES or shown[:, 0].std() < _MIN_TALKING_STD * TRACKED_GAIN[0]:
        return MouthCalibration.of_talker()
    ratios = shown.std(0)[_COMPARED] / np.maximum(spoken.std(0), _MIN_PREDICTED_STD * TRACKED_GAIN)[_COMPARED]
    gain = _gains(float(np.median(ratios).clip(_MIN_RATIO, _MAX_RATIO)) ** _RATIO_POWER)
    bias = np.zeros(NUM_CHANNELS, np.float32)
    bias[_HELD] = _HELD_SHARE * (shown - spoken * gain).mean(0)[_HELD]
    return MouthCalibration(gain * TRACKED_GAIN, bias)


def _gains(opening: float) -> NDArray[np.float32]:
    gain = np.ones(NUM_CHANNELS, np.float32)
    gain[_OPENING] = opening
    gain[_SPREADING] = _SPREADING_GAIN
    return gain
