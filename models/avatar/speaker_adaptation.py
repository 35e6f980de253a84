"""Speaker adaptation: how one speaker's mouth deviates from the average speaker's, depending on the sounds.

The network predicts the mouth of an average speaker from its last hidden layer. A linear regression from the same layer
to the residual of the tracked mouth adapts it to one speaker. Its weights have a Gaussian prior around 0, the average
speaker, so that a few seconds of speech change little and a minute changes much (Bishop, "Pattern Recognition and
Machine Learning", 2006, section 3.3). Cross-validation over parts of the same video decides how much of it is applied
in each channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.mouth.shape import CHANNELS, NUM_CHANNELS

# Weight of the prior in seconds of a hidden layer of norm 1; in speech its squared norm is about 86. Chosen from 3 to
# 100 on speakers unknown to the network: with more, videos of any length improve less; with less, closed lips are
# missed. Closed lips do not depend on the corners of the mouth, so their channels get less: on halves of twelve videos
# that were not learned from, the width has r .650, .657, .658, .655 and .652 with 3, 6, 10, 20 and 30
# (docs/experiments.md). A prior fitted to other speakers did no better than this isotropic one.
PRIOR_SECONDS: Final = np.full(NUM_CHANNELS, 30.0)
PRIOR_SECONDS[[CHANNELS.index(name) for name in ("width", "protrude", "corner_y")]] = 10.0
PRIOR_SECONDS.flags.writeable = False
_NUM_FOLDS: Final = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SpeakerAdaptation:
    """Speaking style of one speaker.

    Attributes:
        weights: (H, 8) float32 offset of each channel in eye distances per unit of the hidden layer; (0, 8) for an
            unknown speaker.
    """

    weights: NDArray[np.float32]

    @classmethod
    def unknown(cls) -> SpeakerAdaptation:
        """Return the adaptation of an unknown speaker, which changes nothing."""
        return cls(np.zeros((0, NUM_CHANNELS), np.float32))

    def applied(self, shape: NDArray[np.float32], hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (T, 8) mouth shapes, predicted for the average speaker, adapted to this speaker.

        The (T, H) hidden layer is not used for an unknown speaker.
        """
        if not len(self.weights):
            return shape
        return np.asarray(shape + hidden @ self.weights, np.float32)


def learn(
    hidden: NDArray[np.float32], residual: NDArray[np.float32], fps: float
) -> tuple[SpeakerAdaptation, NDArray[np.float32]]:
    """Learn the adaptation to a speaker.

    Args:
        hidden: (N, H) hidden layer in N > 0 frames of speech, in the order of the video.
        residual: (N, 8) tracked minus predicted mouth shape in those frames.
        fps: Frames per second.

    Returns:
        The adaptation, and its cross-validated (N, 8) offsets: each frame's comes from weights that were learned
        without the part of the video around it.
    """
    folds = np.array_split(np.arange(len(hidden)), min(_NUM_FOLDS, len(hidden)))
    products = [_products(hidden[rows], residual[rows]) for rows in folds]
    gram, shared = np.sum([own for own, _ in products], 0), np.sum([own for _, own in products], 0)
    prior = PRIOR_SECONDS * fps
    predicted = np.zeros(residual.shape)
    for rows, (own_gram, own_shared) in zip(folds, products, strict=True):
        predicted[rows] = hidden[rows] @ _regression(gram - own_gram, shared - own_shared, prior)
    share = ((predicted * residual).sum(0) / np.maximum((predicted**2).sum(0), 1e-12)).clip(0, 1)
    adaptation = SpeakerAdaptation((_regression(gram, shared, prior) * share).astype(np.float32))
    return adaptation, (predicted * share).astype(np.float32)


def _regression(gram: Floats, shared: Floats, prior: Floats) -> Floats:
    """Return the (H, 8) weights of a ridge regression whose penalty is (8,) `prior`."""
    weights = np.empty_like(shared)
    for penalty in np.unique(prior):
        alike = prior == penalty
        weights[:, alike] = np.linalg.solve(gram + penalty * np.eye(len(gram)), shared[:, alike])
    return weights


def _products(hidden: NDArray[np.float32], residual: NDArray[np.float32]) -> tuple[Floats, Floats]:
    layer = hidden.astype(np.float64)
    return layer.T @ layer, layer.T @ residual
