"""Predicts the mouth shape of each video frame from speech features."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from models.mouth.closures import close_lips
from models.mouth.shape import CHANNELS, DEFAULT_SCALE, NUM_CHANNELS, OPEN_MOUTH
from models.speech.activity import SpeechActivity, fade, spread
from models.speech.features import FeatureBlock
from models.speech.level import ROWS_PER_SECOND
from models.weights import weights_path
from models.weights.onnx_session import make_session

# Tolerance for frame times computed elsewhere; a hundredth of a frame at 100 fps.
_TOLERANCE_SECONDS = 1e-4
_SHUT = 1e-3  # eye distances: lips closer than this touch, and are left unchanged
_OPEN = CHANNELS.index("open_in")
# The average mouth in speech: median over 16 speakers of the GRID corpus where speech is audible.
_PARTED = np.array([0.066, 0.0855, -0.0127, 0.0075, 0.0686, 0.0426, 0.0, -0.0204], np.float32)
# Lips open by less than this share of that are closed; lips closed for longer than any speech sound takes are at rest.
# With 240, 280 and 320 ms the videos below have r .742, .742 and .740; with .5 in place of .6, .740.
_SHUT_SHARE, _REST_ROWS = 0.6, 15
# This long before they open again, lips at rest wait parted. With 24, 30, 36 and 48 rows the videos have r .742, .743,
# .742 and .742.
_WAIT_ROWS = 30
# And this long while they open: otherwise they would close on the way.
_OPENING_ROWS = 8
# Contact logit above which the lips are taken to touch. With 0, 1 and 2, nine videos in the wild have r .725, .735 and
# .740 (mean correlation with the tracked opening) and six GRID readers .911, .913 and .914.
_SURE_CONTACT = 2.0


@dataclass(frozen=True)
class MouthBlock:
    """The mouth in T frames.

    Attributes:
        shape: (T, 8) float32 `models.mouth.shape` channels: offset from rest in eye distances, 0 in silence.
        gate: (T,) float32: 1 in speech, 0 in silence, in between while fading.
        hidden: (T, H) float32 last hidden layer of the network, attenuated like the shape and 0 in silence (see
            `models.avatar.speaker_adaptation`). (0, 0) if the shape does not come from the network.
        smile: (T,) how far the face smiles besides, see `models.mouth.motion.smiling`; None: not at all.
        closed: (T,) how far the lips are known to be closed, 0 to 1, whatever `shape` is; None: not known.
        fps: Frames per second.
    """

    shape: NDArray[np.float32]
    gate: NDArray[np.float32]
    hidden: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    smile: NDArray[np.float64] | None = None
    closed: NDArray[np.float32] | None = None
    fps: Fraction = Fraction(25)

    def scaled(self, factor: float) -> MouthBlock:
        """Return the mouth with its movement multiplied by `factor`; lips that are nearly closed stay so."""
        if factor == 1:
            return self
        shape = self.shape * np.float32(factor)
        opening = self.shape[:, _OPEN, None]
        is_near = (1 - opening / (2 * OPEN_MOUTH)).clip(0, 1)
        close_lips(shape, max(factor - 1, 0) * opening.clip(0) * is_near)
        return replace(self, shape=shape, hidden=self.hidden * np.float32(factor))


class SpeechToMouth:
    """The speech-to-mouth network (training, results and limits: models/weights/README.md).

    Args:
        num_threads: CPU threads of the network.

    Raises:
        WeightsError: The weights file is missing or has the wrong contents.
    """

    def __init__(self, num_threads: int = 1) -> None:
        self._network = make_session(weights_path("speech_to_mouth.onnx"), num_threads=num_threads, device="cpu")
        self._num_hidden = int(self._network.get_outputs()[1].shape[-1])

    def predict(self, features: FeatureBlock, fps: Fraction, first_frame: int, num_frames: int) -> MouthBlock:
        """Predict the mouth in frames [first_frame, first_frame + num_frames); frame i is at i / fps seconds.

        The network is skipped if nobody speaks in these frames.

        Args:
            features: Features of a range that contains the times of all frames.
            fps: Frame rate, for example Fraction(30000, 1001).
            first_frame: Frame number from the start of the speech.
            num_frames: 1 or more.

        Raises:
            ValueError: `num_frames` is below 1, or a frame lies outside the range.
        """
        times = _frame_times(features, fps, first_frame, num_frames)
        activity, positions = features.activity, times * ROWS_PER_SECOND - features.first_row
        if not _near(activity.gate, positions).any():
            nothing = np.zeros((num_frames, NUM_CHANNELS + self._num_hidden), np.float32)
            gate = np.zeros(num_frames, np.float32)
            return MouthBlock(nothing[:, :NUM_CHANNELS], gate, nothing[:, NUM_CHANNELS:], fps=fps)
        mouth, hidden = (rows[0] for rows in self._network.run(None, {"features": features.features[None]}))
        shape, contact = mouth[:, :NUM_CHANNELS] * DEFAULT_SCALE, mouth[:, NUM_CHANNELS]
        shape, hidden = _limit_unheard_opening(shape, hidden, activity)
        shape, hidden = _part_and_touch(shape, hidden, contact)
        shape, hidden = _limit_unheard_opening(shape, hidden, activity)
        open_share = activity.gate[:, None]
        rows = np.hstack([shape * open_share, open_share, hidden * open_share])
        frames = _interpolate(rows, positions)
        gate = frames[:, NUM_CHANNELS].clip(0, 1)  # the spline overshoots next to corners
        return MouthBlock(frames[:, :NUM_CHANNELS], gate, frames[:, NUM_CHANNELS + 1 :], fps=fps)


def _part_and_touch(
    shape: NDArray[np.float32], hidden: NDArray[np.float32], contact: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keep the lips parted while they wait for the next word, and close them where the network predicts contact.

    The network learned pauses from the silence around single sentences, where readers close their mouths. In 26 pauses
    of nine videos in the wild, lips are .92 times as far open as in speech (median); the prediction was .59 times.

    Args:
        shape: (N, 8) predicted offsets from rest in eye distances.
        hidden: (N, H) hidden layer.
        contact: (N,) logit of lip contact.

    Returns:
        Corrected `shape` and `hidden`. Where lips wait, `hidden` fades to 0: speaker adaptation must neither change
        waiting lips nor learn from them (it would learn lips that are closed inside words).
    """
    touch = (1 / (1 + np.exp(_SURE_CONTACT - contact)))[:, None]  # (N, 1)
    opening = shape[:, _OPEN, None].clip(0)
    waiting = _waits(opening[:, 0])[:, None] * (1 - opening / _PARTED[_OPEN]).clip(0) * (1 - touch)
    met: NDArray[np.float32] = shape + waiting * _PARTED
    close_lips(met, opening * touch)
    return met, np.asarray(hidden * (1 - waiting), np.float32)


def _waits(opening: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (N,) float32: 1 in a pause ahead of speech, 0 elsewhere, in between while fading.

    Pauses are detected on the predicted mouth, not on the audio, which may contain other voices, music or noise: no
    speech sound keeps the lips closed this long.

    Args:
        opening: (N,) predicted opening of each row in eye distances.
    """
    before = np.zeros(_REST_ROWS - 1, np.bool_)  # a mouth that starts closed was closed before
    is_open = np.concatenate([before, opening > _SHUT_SHARE * _PARTED[_OPEN]])
    rests = spread(~spread(is_open, 0, _REST_ROWS - 1), _REST_ROWS - 1, 0)
    return fade(spread(rests & spread(is_open, 0, _WAIT_ROWS), _OPENING_ROWS, 0)[len(before) :])


def _limit_unheard_opening(
    shape: NDArray[np.float32], hidden: NDArray[np.float32], activity: SpeechActivity
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keep the lips from opening and closing again where nothing is audible.

    The network predicts mouths for the quiet before speech, and some of them open and close as for a word. There the
    opening is limited to the minimum since the last audible row (closed if it was silent before) or the minimum until
    the next one, whichever is larger: in a pause the mouth closes after the last word and opens towards the next.

    Args:
        shape: (N, 8) offsets from rest.
        hidden: (N, H) hidden layer.
        activity: Voice activity in the same rows.

    Returns:
        `shape` and `hidden`, scaled down where the opening exceeds the limit.
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
    limit = np.maximum(since, until).clip(0)
    share = ((limit + _SHUT) / (opening.clip(0) + _SHUT)).clip(0, 1)[:, None]  # 1 where nothing is limited
    return np.asarray(shape * share, np.float32), np.asarray(hidden * share, np.float32)


def _frame_times(features: FeatureBlock, fps: Fraction, first_frame: int, num_frames: int) -> NDArray[np.float64]:
    """Return the (T,) times of the frames in seconds, checked against the range of the features."""
    if num_frames < 1:
        raise ValueError(f"Expected at least one frame, got {num_frames = }.")
    numbers = np.arange(first_frame, first_frame + num_frames, dtype=np.int64)
    times: NDArray[np.float64] = numbers * fps.denominator / fps.numerator
    start, stop = features.start_seconds - _TOLERANCE_SECONDS, features.stop_seconds + _TOLERANCE_SECONDS
    if times[0] < start or times[-1] > stop:
        covered = f"[{features.start_seconds}, {features.stop_seconds})"
        raise ValueError(f"Expected frames in {covered} s, got {times[0]} to {times[-1]} s.")
    return times


def _interpolate(rows: NDArray[np.float32], positions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Interpolate (N, C) rows at (T,) fractional row numbers; the outermost rows are repeated.

    The kernel passes through the rows, so lips that touch for a single row do close, and it has no kinks at 60 fps.
    """
    positions = positions.clip(0, len(rows) - 1)
    u = (positions - np.floor(positions)).astype(np.float32)
    kernel = np.stack([_catmull_rom(distance) for distance in (u + 1, u, 1 - u, 2 - u)])  # (4, T)
    between: NDArray[np.float32] = (kernel[..., None] * _near(rows, positions)).sum(0)
    return between


def _near(rows: NDArray[np.float32], positions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the rows between which (T,) fractional row numbers are interpolated, two on either side: (4, T, ...)."""
    row = np.floor(positions.clip(0, len(rows) - 1)).astype(np.int64)
    near: NDArray[np.float32] = rows[(row + np.arange(-1, 3)[:, None]).clip(0, len(rows) - 1)]
    return near


def _catmull_rom(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Catmull-Rom kernel at distances from 0 to 2 (Catmull and Rom, "A class of local interpolating splines", 1974)."""
    near = (3 * distance**3 - 5 * distance**2 + 2) / 2
    far = (-(distance**3) + 5 * distance**2 - 8 * distance + 4) / 2
    return np.where(distance < 1, near, far)
