"""Draws batches of the examples of `training.speech_examples`, and weighs speakers and channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.mouth.shape import NUM_CHANNELS
from training.speech_alignment import fit_ridge
from training.speech_examples import Example
from training.speech_network import NUM_FEATURES, NUM_OUTPUTS

# Share of each pool in a batch. Half of what real talkers say is clean: noise alone costs precision in clean speech.
_SHARES = {
    "clean": 0.35,
    "tape": 0.1,
    "voice": 0.15,
    "room": 0.15,
    "table": 0.12,
    "table_room": 0.05,
    "negative": 0.08,
}
_TABLE_POOLS = ("table", "table_room")
# Share of the second corpus in the real speech of a batch.
_SECOND_SHARE = 0.4
_BATCH, _ROWS = 24, 150
# Mouths open alike; what the corners do is a habit, and the tracker sees it on some faces only.
TRUST_POWERS = (5, 5, 9, 8, 5, 5, 8, 8)
_MIN_AGREEMENT = 0.1
# A talker with n clips is drawn in proportion to n to the power of 1 - this.
_EVENNESS = 0.35
# Clips are stretched in time by up to this exponent.
_STRETCH = 0.18
# Every second one of these windows of a clip has a piece of another talker's clip in it, of .3 to 1 s.
_SPLICE_WINDOW, _SPLICE_ROWS = 50, (15, 50)
# Rows to either side of a seam that teach nothing: mouths are ahead of what is heard, and behind it.
_SEAM_ROWS = 4
REAL, TABLE, REST = 0, 1, 2

Floats = NDArray[np.float32]


class Batch(NamedTuple):
    """What a training step needs.

    Attributes:
        features: (B, N, F).
        mouths: (B, N, 9).
        valid: (B, N), 1 for rows that count.
        kinds: (B,) 0 for talkers, 1 for the table of phones, 2 for rest.
        trust: (B, 8) weight of each channel.
    """

    features: Tensor
    mouths: Tensor
    valid: Tensor
    kinds: Tensor
    trust: Tensor


class Batches:
    """Draws batches: a pool, and in it an example; talkers with many clips are held back.

    Args:
        corpora: Examples of the first corpus, with synthetic speech and noises, and of a second one, if any.
        seed: Of everything random.
        trust_powers: (8,) of `talker_trust`, for the first corpus; the second one is trusted.
    """

    def __init__(self, corpora: Sequence[list[Example]], seed: int, trust_powers: Sequence[int] = TRUST_POWERS) -> None:
        self._rng = np.random.default_rng(seed)
        self._trust = talker_trust([e for e in corpora[0] if e.pool == "clean"], trust_powers)
        self._pools = {pool: [e for corpus in corpora for e in corpus if e.pool == pool] for pool in _SHARES}
        self._weights = {
            pool: _pool_weights([[e for e in corpus if e.pool == pool] for corpus in corpora]) for pool in _SHARES
        }

    def draw(self) -> Batch:
        """Draws one batch."""
        features = np.zeros((_BATCH, _ROWS, NUM_FEATURES), np.float32)
        mouths, valid = np.zeros((_BATCH, _ROWS, NUM_OUTPUTS), np.float32), np.zeros((_BATCH, _ROWS), np.float32)
        names = list(_SHARES)
        numbers = self._rng.choice(len(names), _BATCH, p=list(_SHARES.values()))
        trust = np.ones((_BATCH, NUM_CHANNELS), np.float32)
        for index, number in enumerate(numbers):
            pool = names[number]
            example = self._pools[pool][self._rng.choice(len(self._pools[pool]), p=self._weights[pool])]
            heard, shown = self._stretch(example)
            trust[index] = self._trust.get(example.name, 1.0)
            features[index], mouths[index, : len(shown)], valid[index, : len(shown)] = heard[-1], shown, 1
            features[index, : len(heard)] = heard
        kinds = np.array([_kind(names[number]) for number in numbers])
        return self._splice(Batch(*(torch.from_numpy(array) for array in (features, mouths, valid, kinds, trust))))

    def _splice(self, batch: Batch) -> Batch:
        """Has talkers go on with another one's words, and come back.

        All sentences of the corpus have one grammar of six words, which a network would learn instead of sounds.
        """
        partner = torch.from_numpy(self._rng.permutation(_BATCH))
        is_taken = torch.zeros(_BATCH, _ROWS, dtype=torch.bool)
        for rows in is_taken:
            for window in range(0, _ROWS, _SPLICE_WINDOW):
                first = window + int(self._rng.integers(_SPLICE_WINDOW // 2))
                rows[first : first + int(self._rng.integers(*_SPLICE_ROWS))] = bool(self._rng.integers(2))
        is_taken &= ((batch.kinds == REAL) & (batch.kinds[partner] == REAL))[:, None]
        changes = F.pad((is_taken[:, 1:] != is_taken[:, :-1]).float(), (1, 0))[:, None]  # (B, 1, N)
        near_seam = F.max_pool1d(F.pad(changes, (_SEAM_ROWS - 1, _SEAM_ROWS)), 2 * _SEAM_ROWS, 1)[:, 0]
        return batch._replace(
            features=torch.where(is_taken[..., None], batch.features[partner], batch.features),
            mouths=torch.where(is_taken[..., None], batch.mouths[partner], batch.mouths),
            valid=torch.where(is_taken, batch.valid[partner], batch.valid) * (1 - near_seam),
        )

    def _stretch(self, example: Example) -> tuple[Floats, Floats]:
        num_rows, step = len(example.mouth), float(np.exp(self._rng.uniform(-_STRETCH, _STRETCH)))
        length = max(1, min(int(num_rows / step), _ROWS))
        start = self._rng.uniform(0, max(1e-6, num_rows - length * step))
        positions = (start + np.arange(length) * step).clip(0, num_rows - 1)
        before = positions.astype(np.int64)
        after, weight = np.minimum(before + 1, num_rows - 1), (positions - before).astype(np.float32)[:, None]
        heard, shown = example.features, example.mouth
        return (
            heard[before].astype(np.float32) * (1 - weight) + heard[after].astype(np.float32) * weight,
            shown[before] * (1 - weight) + shown[after] * weight,
        )


def _kind(pool: str) -> int:
    return TABLE if pool in _TABLE_POOLS else REST if pool == "negative" else REAL


def _pool_weights(corpora: Sequence[list[Example]]) -> NDArray[np.float64]:
    """Returns the weights of the examples of all corpora, one after the other; they sum to 1."""
    shares = np.array([1 - _SECOND_SHARE, _SECOND_SHARE])[: len(corpora)] * [len(corpus) > 0 for corpus in corpora]
    weights = [share * _example_weights(corpus) for share, corpus in zip(shares, corpora, strict=True)]
    joined: NDArray[np.float64] = np.concatenate(weights) / shares.sum()
    return joined


def _example_weights(examples: list[Example]) -> NDArray[np.float64]:
    names, counts = np.unique([e.name for e in examples], return_counts=True)
    of_name = dict(zip(names.tolist(), counts**-_EVENNESS, strict=True))
    weights = np.array([of_name[e.name] for e in examples])
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def talker_trust(examples: list[Example], powers: Sequence[int] = TRUST_POWERS) -> dict[str, Floats]:
    """Says how far the tracked mouths of each talker can be trusted.

    A tracker mistakes the corners of some mouths, and some talkers have habits of their own. A ridge regression, fitted
    on the talker with the most clips, agrees with the channels that say something of other talkers too.

    Args:
        examples: Clean speech.
        powers: (8,) power of the correlation in each channel.

    Returns:
        (8,) weights of each talker: the power of the correlation, divided by its mean over examples.
    """
    common = Counter(e.name for e in examples).most_common(1)[0][0]
    fitted = [e for e in examples if e.name == common]
    predict_mouth = fit_ridge(
        [e.features.astype(np.float32) for e in fitted], [e.mouth[:, :NUM_CHANNELS] for e in fitted]
    )
    agreement: dict[str, list[Floats]] = {}
    for example in examples:
        found = predict_mouth(example.features.astype(np.float32))
        pairs = zip(found.T, example.mouth.T, strict=False)
        agreement.setdefault(example.name, []).append(np.array([np.corrcoef(a, b)[0, 1] for a, b in pairs]))
    trust = {name: np.mean(values, 0).clip(_MIN_AGREEMENT, 1) ** np.array(powers) for name, values in agreement.items()}
    mean = np.mean([trust[example.name] for example in examples], 0)
    return {name: (power / mean).astype(np.float32) for name, power in trust.items()}
