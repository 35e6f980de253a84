"""Speech features -> the mouth shape of each video frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.mouth.shape import CHANNELS, DEFAULT_SCALE, NUM_CHANNELS
from models.speech.activity import SpeechActivity, fade, spread
from models.speech.features import FeatureBlock
from models.speech.level import ROWS_PER_SECOND
from models.weights import weights_path
from models.weights.onnx_session import make_session

# Of a frame time computed in another way than here; a hundredth of a frame at 100 fps.
_TOLERANCE_SECONDS = 1e-4
_SHUT = 1e-3  # eye distances: lips that part by less touch, and are left as they are
_OPEN = CHANNELS.index("open_in")
# Lips that meet lift the lower one. These change alike: open_in + open_out = 2 (upper + lower).
_CLOSING = [CHANNELS.index(name) for name in ("open_in", "open_out", "lower")]
# The mouth of an average row of speech: the median of 16 talkers of the GRID corpus, where they are heard.
_PARTED = np.array([0.066, 0.0855, -0.0127, 0.0075, 0.0686, 0.0426, 0.0, -0.0204], np.float32)
# Lips that are less than this share of it apart are shut, and lips that are shut for longer than for any sound rest.
# With 240, 280 and 320 ms the films below have r .742, .742 and .740, with .5 in place of .6 .740.
_SHUT_SHARE, _REST_ROWS = 0.6, 15
# So long before they open again, lips that rest wait. With 24, 30, 36 and 48 rows the films have r .742, .743, .742 and
# .742.
_WAIT_ROWS = 30
# And so long while they open: they would shut on the way.
_OPENING_ROWS = 8
# Logit of the contact from which lips touch rather than not. With 0, 1 and 2 nine films in the wild have r .725, .735
# and .740 (mean, held against their tracked opening) and six readers .911, .913 and .914.
_SURE_CONTACT = 2.0


@dataclass(frozen=True)
class MouthBlock:
    """The mouth in T frames.

    Attributes:
        shape: (T, 8) float32 `models.mouth.shape` channels: offset from rest in eye distances, 0 in silence.
        gate: (T,) float32: 1 in speech, 0 in silence, between them while fading.
        hidden: (T, H) float32 what the shape is read from, 0 in silence: the network's last hidden layer, held back as
            the shape is (see `models.avatar.speaker_adaptation`). (0, 0) of a mouth that no network has read.
    """

    shape: NDArray[np.float32]
    gate: NDArray[np.float32]
    hidden: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))


class SpeechToMouth:
    """The speech-to-mouth network (models/weights/README.md: training, figures, limits).

    Args:
        num_threads: CPU threads of the network.
        device: "cpu" or "cuda".

    Raises:
        WeightsError: The network's file is missing or not the one expected.
        ConfigError: CUDA was asked for and is not active.
    """

    def __init__(self, num_threads: int = 1, device: Literal["cpu", "cuda"] = "cpu") -> None:
        self._network = make_session(weights_path("speech_to_mouth.onnx"), num_threads=num_threads, device=device)

    def predict(self, features: FeatureBlock, fps: Fraction, first_frame: int, num_frames: int) -> MouthBlock:
        """Predicts the mouth in frames [first_frame, first_frame + num_frames); frame i stands at i / fps seconds.

        Args:
            features: Features of a stretch that holds the times of all the frames.
            fps: Frame rate, for example Fraction(30000, 1001).
            first_frame: Frame number from the start of the speech.
            num_frames: 1 or more.

        Raises:
            ValueError: There is no frame, or a frame lies outside the stretch.
        """
        times = _frame_times(features, fps, first_frame, num_frames)
        activity = features.activity
        mouth, hidden = (rows[0] for rows in self._network.run(None, {"features": features.features[None]}))
        shape, contact = mouth[:, :NUM_CHANNELS] * DEFAULT_SCALE, mouth[:, NUM_CHANNELS]
        shape, hidden = _hold_breath(shape, hidden, activity)
        shape, hidden = _part_and_touch(shape, hidden, contact)
        shape, hidden = _hold_breath(shape, hidden, activity)
        open_share = activity.gate[:, None]
        rows = np.hstack([shape * open_share, open_share, hidden * open_share])
        frames = _interpolate(rows, times * ROWS_PER_SECOND - features.first_row)
        gate = frames[:, NUM_CHANNELS].clip(0, 1)  # beside a corner the spline swings over
        return MouthBlock(frames[:, :NUM_CHANNELS], gate, frames[:, NUM_CHANNELS + 1 :])


def _part_and_touch(
    shape: NDArray[np.float32], hidden: NDArray[np.float32], contact: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Has lips wait parted for the next word, and meet where the network is sure that they touch.

    The network learned pauses from the silence around single sentences, where readers shut their mouths. In 26 pauses
    of nine films in the wild lips are .92 times as far open as in speech (median), and were predicted to be .59 times.

    Args:
        shape: (N, 8) predicted offsets from rest in eye distances.
        hidden: (N, H) what they are read from.
        contact: (N,) logit of whether the lips touch.

    Returns:
        Both; lips that wait are not read from anything: a talker's own way neither changes them nor is it learned from
        them (else it would be that of lips that are shut inside words).
    """
    touch = (1 / (1 + np.exp(_SURE_CONTACT - contact)))[:, None]  # (N, 1)
    opening = shape[:, _OPEN, None].clip(0)
    waiting = _waits(opening[:, 0])[:, None] * (1 - opening / _PARTED[_OPEN]).clip(0) * (1 - touch)
    met: NDArray[np.float32] = shape + waiting * _PARTED
    met[:, _CLOSING] -= opening * touch
    return met, np.asarray(hidden * (1 - waiting), np.float32)


def _waits(opening: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) 1 in a pause ahead of speech, 0 elsewhere, between them while fading.

    A pause is told by the mouth and not by the sound, as there are voices, music and noise in it: no sound of speech
    keeps lips shut for so long.

    Args:
        opening: (N,) predicted opening of each row in eye distances.
    """
    before = np.zeros(_REST_ROWS - 1, np.bool_)  # what begins shut has been so
    is_open = np.concatenate([before, opening > _SHUT_SHARE * _PARTED[_OPEN]])
    rests = spread(~spread(is_open, 0, _REST_ROWS - 1), _REST_ROWS - 1, 0)
    return fade(spread(rests & spread(is_open, 0, _WAIT_ROWS), _OPENING_ROWS, 0)[len(before) :])


def _hold_breath(
    shape: NDArray[np.float32], hidden: NDArray[np.float32], activity: SpeechActivity
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where nothing is heard, lips do not open and meet again.

    The network makes mouths of the quiet before speech, of which some open and shut as for a word. There a mouth is
    opened no further than it was at all times since it was heard (which is shut, where it was silent before), or will
    be at all times until it is heard: in a pause it falls from the last word and rises to the next.

    Args:
        shape: (N, 8) offsets from rest.
        hidden: (N, H) what they are read from.
        activity: Of the same rows.

    Returns:
        Both, held back where that is too much.
    """
    opening = shape[:, _OPEN]
    is_ahead = (activity.gate > 0) & ~activity.is_heard
    since, until = opening * activity.gate, opening.copy()
    since[0] *= not is_ahead[0]
    for row in range(1, len(opening)):
        if is_ahead[row]:
            since[row] = min(since[row], since[row - 1])
    for row in range(len(opening) - 2, -1, -1):
        if is_ahead[row] and activity.gate[row + 1] > 0:
            until[row] = min(until[row], until[row + 1])
    share = (np.maximum(since, until) / np.maximum(opening, _SHUT)).clip(0, 1)[:, None]
    return np.asarray(shape * share, np.float32), np.asarray(hidden * share, np.float32)


def _frame_times(features: FeatureBlock, fps: Fraction, first_frame: int, num_frames: int) -> NDArray[np.float64]:
    """Seconds of each frame, (T,), checked against the stretch."""
    if num_frames < 1:
        raise ValueError(f"Expected at least one frame, got {num_frames = }.")
    numbers = np.arange(first_frame, first_frame + num_frames, dtype=np.int64)
    times: NDArray[np.float64] = numbers * fps.denominator / fps.numerator
    start, stop = features.start_seconds - _TOLERANCE_SECONDS, features.stop_seconds + _TOLERANCE_SECONDS
    if times[0] < start or times[-1] > stop:
        stretch = f"[{features.start_seconds}, {features.stop_seconds})"
        raise ValueError(f"Expected frames in {stretch} s, got {times[0]} to {times[-1]} s.")
    return times


def _interpolate(rows: NDArray[np.float32], positions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Values of (N, C) rows at fractional row numbers (T,); the outermost rows hold on.

    The kernel goes through the rows, so that lips that meet for one are shut, and leaves no kinks in frames of 60 a
    second.
    """
    positions = positions.clip(0, len(rows) - 1)
    row = np.floor(positions).astype(np.int64)
    u = (positions - row).astype(np.float32)
    kernel = np.stack([_catmull_rom(distance) for distance in (u + 1, u, 1 - u, 2 - u)])  # (4, T)
    near = rows[(row + np.arange(-1, 3)[:, None]).clip(0, len(rows) - 1)]  # (4, T, C)
    between: NDArray[np.float32] = (kernel[..., None] * near).sum(0)
    return between


def _catmull_rom(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cubic of Catmull and Rom, "A class of local interpolating splines", 1974, at distances from 0 to 2."""
    near = (3 * distance**3 - 5 * distance**2 + 2) / 2
    far = (-(distance**3) + 5 * distance**2 - 8 * distance + 4) / 2
    return np.where(distance < 1, near, far)
