"""The avatar's own way of speaking: what its mouth does beyond the average talker's, by what is being said.

The network reads the mouth of an average talker off its last hidden layer. Here the same layer is read for one talker:
a linear regression of what the tracked mouth does beyond the prediction. Its weights have a Gaussian prior around 0,
the average talker, so that a few seconds of speech change little and a minute changes much (Bishop, "Pattern
Recognition and Machine Learning", 2006, section 3.3). What it says of speech that it did not learn from, stretch by
stretch of the same film, decides how much of it is taken over in each channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.mouth.shape import NUM_CHANNELS

# Weight of what is known beforehand: that of so many seconds of a layer whose norm is 1; in speech its square is about
# 86. Of 3 to 100, on talkers whom no network had heard: with more, every length of film brings less; with less, closed
# lips are missed (models/weights/README.md). A prior fitted to other talkers' ways, in place of this even one, did no
# better.
PRIOR_SECONDS: Final = 30.0
_NUM_STRETCHES: Final = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SpeakerAdaptation:
    """One talker's way of speaking.

    Attributes:
        weights: (H, 8) float32 offset of each channel in eye distances for each unit of the hidden layer; (0, 8) of a
            talker of whom nothing is known.
    """

    weights: NDArray[np.float32]

    @classmethod
    def unknown(cls) -> SpeakerAdaptation:
        """Of a talker of whom nothing is known: the average talker's."""
        return cls(np.zeros((0, NUM_CHANNELS), np.float32))

    def applied(self, shape: NDArray[np.float32], hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns (T, 8) predicted mouth shapes as this talker makes them.

        Args:
            shape: (T, 8) as predicted for the average talker.
            hidden: (T, H) what they were read from; not looked at for a talker of whom nothing is known.
        """
        if not len(self.weights):
            return shape
        return np.asarray(shape + hidden @ self.weights, np.float32)


def learn(
    hidden: NDArray[np.float32], beyond: NDArray[np.float32], fps: float, prior_seconds: float = PRIOR_SECONDS
) -> tuple[SpeakerAdaptation, NDArray[np.float32]]:
    """Learns a talker's way of speaking.

    Args:
        hidden: (N, H) hidden layer in N > 0 frames of speech, in the order of the film.
        beyond: (N, 8) what the tracked mouth does beyond the prediction there, in the sizes of the prediction.
        fps: Frames a second.
        prior_seconds: Weight of what is known beforehand: that of so many seconds of a hidden layer of norm 1.

    Returns:
        The way, and (N, 8) offsets as it would give them for each frame, had it not learned from those near it.
    """
    stretches = np.array_split(np.arange(len(hidden)), min(_NUM_STRETCHES, len(hidden)))
    products = [_products(hidden[rows], beyond[rows]) for rows in stretches]
    gram, shared = np.sum([own for own, _ in products], 0), np.sum([own for _, own in products], 0)
    prior = prior_seconds * fps * np.eye(hidden.shape[1])
    foretold = np.zeros(beyond.shape)
    for rows, (own_gram, own_shared) in zip(stretches, products, strict=True):
        foretold[rows] = hidden[rows] @ np.linalg.solve(gram - own_gram + prior, shared - own_shared)
    share = ((foretold * beyond).sum(0) / np.maximum((foretold**2).sum(0), 1e-12)).clip(0, 1)
    way = SpeakerAdaptation((np.linalg.solve(gram + prior, shared) * share).astype(np.float32))
    return way, (foretold * share).astype(np.float32)


def _products(hidden: NDArray[np.float32], beyond: NDArray[np.float32]) -> tuple[Floats, Floats]:
    layer = hidden.astype(np.float64)
    return layer.T @ layer, layer.T @ beyond
