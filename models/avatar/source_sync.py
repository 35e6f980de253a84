"""Audio-video offset of a source, measured on its talking mouth.

The tracked mouth is compared with the mouth predicted from the source's own audio, at every lag. Both are resampled to
the rows of the speech features (20 ms), high-pass filtered and correlated per channel. The lag with the highest
correlation is the offset if it is significant for that amount of speech and clearly higher than at all other lags
(speech has about five syllables per second, and neighbouring ones correlate slightly).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.mouth.shape import CHANNELS, NUM_CHANNELS
from models.speech.level import ROWS_PER_SECOND

MAX_OFFSET_SECONDS: Final = 0.4  # ten frames at 25 fps
MIN_SPEECH_SECONDS: Final = 1.5
MIN_CONFIDENCE: Final = 0.6

# Compared channels and their weights: the opening is tracked and predicted best.
_WEIGHTS = {"open_in": 1.0, "open_out": 1.0, "width": 0.5, "lower": 1.0, "jaw": 1.0, "corner_y": 0.5}
_CHANNELS = [CHANNELS.index(name) for name in _WEIGHTS]
_SHARES = np.array(list(_WEIGHTS.values())) / sum(_WEIGHTS.values())
_NEAR_SPEECH_ROWS = 10  # silence around speech that is also compared: lips part before the sound and close after it
_MAX_DEVIATION = 3.0  # robust standard deviations: limits the effect of a laugh or a lost track
_PEAK_ROWS = 10  # half a syllable: lags this near belong to the same peak
_REACH_ROWS = round(MAX_OFFSET_SECONDS * ROWS_PER_SECOND)
# Significance is Fisher's atanh(r) x sqrt(seconds). In 510 pairs of a mouth with unrelated speech it exceeds 1.25 in 1
# to 2 %, for three seconds as for five.
_NO_SIGNIFICANCE, _SIGNIFICANCE_RANGE = 0.6, 1.4
_MARGIN_RANGE = 0.6  # of the margin over the correlation at the best other lag
_MIN_CORRELATION = 0.3


@dataclass(frozen=True)
class SourceSync:
    """Audio-video offset of a source."""

    offset_seconds: float | None = None  # how far the audio lags behind the video (negative: leads); None if unknown
    confidence: float = 0.0  # 0 to 1, how clearly the best lag stands out; below `MIN_CONFIDENCE` the offset is unknown
    correlation: float = 0.0  # correlation of the tracked and the predicted mouth at that lag
    speech_seconds: float = 0.0  # amount of speech with a visible face that was compared


def measure_sync(
    tracked: NDArray[np.float32],
    present: NDArray[np.bool_],
    fps: Fraction,
    predicted: NDArray[np.float32],
    gate: NDArray[np.float32],
) -> SourceSync:
    """Measure the audio-video offset of a source.

    Args:
        tracked: (N, 8) mouth shape in each source frame.
        present: (N,) whether the face is visible.
        fps: Frame rate of the source.
        predicted: (M, 8) mouth shape predicted from the source's own audio, in rows of 20 ms from its start.
        gate: (M,) 1 in speech, 0 in silence.
    """
    if tracked.shape != (len(present), NUM_CHANNELS) or predicted.shape != (len(gate), NUM_CHANNELS):
        shapes = (tracked.shape, present.shape, predicted.shape, gate.shape)
        raise ValueError(f"Expected (N, 8), (N,), (M, 8), (M,), got {shapes}.")
    seen, is_seen = _to_rows(tracked[:, _CHANNELS], present, fps, len(gate))
    heard = predicted[: len(seen), _CHANNELS].astype(np.float64)
    speaks = gate[: len(seen)] > 0.5
    speech_seconds = float((speaks & is_seen).sum()) / ROWS_PER_SECOND
    if speech_seconds < MIN_SPEECH_SECONDS:
        return SourceSync(speech_seconds=speech_seconds)
    is_heard = np.convolve(speaks, np.ones(2 * _NEAR_SPEECH_ROWS + 1), "same") > 0
    correlations = _correlate(
        fast_part(seen, is_seen, ROWS_PER_SECOND), is_seen, fast_part(heard, is_heard, ROWS_PER_SECOND), is_heard
    )
    return _judge(correlations, speech_seconds)


def fast_part(rows: NDArray[np.floating], counts: NDArray[np.bool_], rows_per_second: float) -> NDArray[np.float64]:
    """Return rows without anything slower than a second (posture, not speech), with outliers clipped.

    Args:
        rows: (M, C).
        counts: (M,) valid rows; the others give 0.
        rows_per_second: Rate of the rows.
    """
    middle = np.median(rows[counts], 0)
    around = np.where(counts[:, None], rows - middle, 0.0)
    spread = np.maximum(1.4826 * np.median(np.abs(around[counts]), 0), 0.3 * around[counts].std(0))
    bounded = np.clip(around, -_MAX_DEVIATION * spread, _MAX_DEVIATION * spread)
    return without_slow(bounded, counts, rows_per_second)


def without_slow(values: NDArray[np.floating], counts: NDArray[np.bool_], rate: float) -> NDArray[np.float64]:
    """Subtract from (N, C) values their mean over the second around each, of (N,) valid ones; 0 elsewhere."""
    window = np.ones(round(rate) // 2 * 2 + 1)
    num = np.maximum(_smear(counts.astype(np.float64), window), 1.0)
    slow = np.stack([_smear(channel * counts, window) / num for channel in values.T], 1)
    return np.asarray((values - slow) * counts[:, None])


def _smear(values: NDArray[np.floating], window: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum over the window around each value; works for inputs shorter than the window."""
    half = len(window) // 2
    return np.convolve(values, window)[half : half + len(values)]


def sample_rows(rows: NDArray[np.float32], times: NDArray[np.floating]) -> NDArray[np.float32]:
    """Interpolate (M,) or (M, C) rows of 20 ms linearly at (T,) seconds; the outermost rows are repeated."""
    position = (np.asarray(times, np.float64) * ROWS_PER_SECOND).clip(0, len(rows) - 1)
    before = position.astype(np.int64)
    after = np.minimum(before + 1, len(rows) - 1)
    weight = (position - before).astype(np.float32).reshape(-1, *[1] * (rows.ndim - 1))
    sampled: NDArray[np.float32] = rows[before] * (1 - weight) + rows[after] * weight
    return sampled


def _to_rows(
    frames: NDArray[np.float32], present: NDArray[np.bool_], fps: Fraction, max_rows: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Resample (N, C) frames to at most `max_rows` rows; a row is valid if the frames around it show the face."""
    num_rows = min(max_rows, int((len(frames) - 1) / fps * ROWS_PER_SECOND) + 1)
    position = np.arange(num_rows) * float(fps) / ROWS_PER_SECOND
    before = np.minimum(position.astype(np.int64), len(frames) - 1)
    after = np.minimum(before + 1, len(frames) - 1)
    weight = (position - before)[:, None]
    rows = frames[before].astype(np.float64) * (1 - weight) + frames[after] * weight
    return rows, present[before] & present[after]


def _correlate(
    seen: NDArray[np.float64], is_seen: NDArray[np.bool_], heard: NDArray[np.float64], is_heard: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Correlate seen[t] with heard[t + lag].

    Returns:
        (2 * _REACH_ROWS + 1,) correlations for the lags from -_REACH_ROWS, averaged over the channels.
    """
    total = np.zeros(2 * _REACH_ROWS + 1)
    for share, x, y in zip(_SHARES, seen.T, heard.T, strict=True):
        power = _at_lags(x**2, is_heard) * _at_lags(is_seen, y**2)
        total += share * _at_lags(x, y) / np.sqrt(np.maximum(power, 1e-12))
    return total


def _at_lags(x: NDArray[np.generic], y: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the sum over t of x[t] * y[t + lag] for the lags of `_correlate`."""
    return np.correlate(np.pad(y.astype(np.float64), _REACH_ROWS), x.astype(np.float64), "valid")


def _judge(correlations: NDArray[np.float64], speech_seconds: float) -> SourceSync:
    lags = np.arange(-_REACH_ROWS, _REACH_ROWS + 1)
    best = int(correlations.argmax())
    peak = float(correlations[best])
    margin = peak - float(correlations[np.abs(lags - lags[best]) > _PEAK_ROWS].max())
    significance = float(np.arctanh(np.clip(peak, 0, 0.99))) * speech_seconds**0.5
    factors = np.clip([(significance - _NO_SIGNIFICANCE) / _SIGNIFICANCE_RANGE, margin / _MARGIN_RANGE], 0, 1)
    confidence = float(np.sqrt(factors.prod()))
    # At the edge of the search range the true peak may be outside.
    is_inside = 0 < best < len(lags) - 1
    if confidence < MIN_CONFIDENCE or peak < _MIN_CORRELATION or not is_inside:
        return SourceSync(None, confidence, peak, speech_seconds)
    left, right = correlations[best - 1], correlations[best + 1]
    row = lags[best] + 0.5 * (left - right) / (
        left - 2 * peak + right
    )  # vertex of the parabola through the three values
    return SourceSync(float(row) / ROWS_PER_SECOND, confidence, peak, speech_seconds)
