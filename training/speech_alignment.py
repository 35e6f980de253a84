"""Finds by how much the picture of each clip of a corpus is ahead of its sound, and which clips cannot be used.

Collected clips were cut and converted by many hands: some have their sound a frame, some a quarter of a second off. A
ridge regression from the speech features to the opening, fitted on the talker with the most clips, is good enough on
other talkers to see that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from models.mouth.shape import CHANNELS
from training.speech_corpus import Utterance

Floats = NDArray[np.float32]

_OPENING = [CHANNELS.index(name) for name in ("open_in", "open_out", "lower", "jaw")]
_NEIGHBOURS, _RIDGE, _STEP = (-4, 0, 4), 3000.0, 2
_MAX_LAG = 30  # rows
# Least correlation with the prediction, at the lag of its talker, of a clip that `align_talkers` keeps.
_FOLLOWS = 0.35
# A clip's own lag counts if it is near that of its talker, or if the correlation there is high and much higher.
_NEAR, _HIGH, _MUCH, _USABLE = 3.5, 0.8, 0.08, 0.6


def align(utterances: list[Utterance], features: list[Floats]) -> list[Utterance]:
    """Shifts the tracks of tracked talkers to their sound.

    Args:
        utterances: Clips of talkers.
        features: (N, F) features of each, at 50 rows a second.

    Returns:
        The clips that can be used, aligned, in order.
    """
    common = Counter(u.name for u in utterances).most_common(1)[0][0]
    clips_of_common = [(f, u) for u, f in zip(utterances, features, strict=True) if u.name == common]
    predict = fit_ridge([f for f, _ in clips_of_common], [_opening(u, len(f))[:, None] for f, u in clips_of_common])
    found = [_correlations(predict(f)[:, 0], _opening(u, len(f))) for u, f in zip(utterances, features, strict=True)]
    lags = np.array([_peak(correlations) for correlations in found])
    aligned = []
    for utterance, correlations, lag in zip(utterances, found, lags, strict=True):
        clips = [i for i, u in enumerate(utterances) if u.name == utterance.name and found[i].max() > _USABLE]
        usual = float(np.median(lags[clips])) if clips else 0.0
        at_usual = correlations[round(usual) + _MAX_LAG]
        if abs(lag - usual) > _NEAR and not (correlations.max() > _HIGH and correlations.max() > at_usual + _MUCH):
            lag = usual
        if correlations[round(lag) + _MAX_LAG] > _USABLE:
            aligned.append(utterance.shifted(lag))
    return aligned


def align_talkers(utterances: list[Utterance], predicted: list[Floats]) -> list[Utterance]:
    """Shifts the tracks of each talker to their sound by one lag per talker.

    For corpora that were recorded in one go, with another language than the regression of `align` knows.

    Args:
        utterances: Clips of talkers.
        predicted: (N, 8) mouth shapes that a network predicts for each, at 50 rows a second.

    Returns:
        The clips whose opening follows the predicted one, aligned.
    """
    aligned = []
    for talker in sorted({u.name for u in utterances}):
        clips = [(u, p) for u, p in zip(utterances, predicted, strict=True) if u.name == talker]
        found = [_correlations(p[:, _OPENING].sum(1), _opening(u, len(p))) for u, p in clips]
        lag = _peak(np.mean(found, 0))
        follows = [correlations[round(lag) + _MAX_LAG] > _FOLLOWS for correlations in found]
        aligned += [u.shifted(lag) for (u, _), is_kept in zip(clips, follows, strict=True) if is_kept]
    return aligned


def fit_ridge(features: list[Floats], tracks: list[Floats]) -> Callable[[Floats], Floats]:
    """Fits a ridge regression from rows of features, with some of their neighbours, to tracks.

    Args:
        features: (N, F) of each clip.
        tracks: (N, C) of each clip.

    Returns:
        What maps (N, F) features to (N, C) deviations from the mean track.
    """
    inputs = np.concatenate([_with_neighbours(clip)[::_STEP] for clip in features])
    outputs = np.concatenate([track[::_STEP] for track in tracks])
    mean, deviation = inputs.mean(0), inputs.std(0) + 0.05
    scaled = (inputs - mean) / deviation
    gram = scaled.T @ scaled + _RIDGE * np.eye(scaled.shape[1], dtype=np.float32)
    weights = np.linalg.solve(gram, scaled.T @ (outputs - outputs.mean(0)))

    def predict(clip: Floats) -> Floats:
        predicted: Floats = ((_with_neighbours(clip) - mean) / deviation) @ weights
        return predicted

    return predict


def _opening(utterance: Utterance, num_rows: int) -> Floats:
    opening: Floats = utterance.at_rows(num_rows)[:, _OPENING].sum(1)
    return opening


def _with_neighbours(features: Floats) -> Floats:
    rows = np.arange(len(features))
    around = [features[(rows + offset).clip(0, len(features) - 1)] for offset in _NEIGHBOURS]
    return np.concatenate(around, 1).astype(np.float32)


def _correlations(predicted: Floats, shown: Floats) -> Floats:
    """Correlation of the prediction with what is shown `lag` rows later, for lags of -30 to 30 rows."""
    length = len(predicted)
    lags = range(-_MAX_LAG, _MAX_LAG + 1)
    pairs = [(predicted[max(0, -k) : length - max(0, k)], shown[max(0, k) : length - max(0, -k)]) for k in lags]
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in pairs], np.float32)


def _peak(correlations: Floats) -> float:
    """The lag of the highest correlation, between rows by a parabola."""
    best = int(correlations.argmax())
    if not 0 < best < 2 * _MAX_LAG:
        return float(best - _MAX_LAG)
    before, top, after = correlations[best - 1 : best + 2].astype(float)
    return float(best - _MAX_LAG + 0.5 * (before - after) / (before - 2 * top + after))
