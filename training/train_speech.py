"""Trains the network that maps speech features to the mouth.

    python -m training.train_speech EXAMPLES CORPORA CHECKPOINT

EXAMPLES is the file of `training.speech_examples`. Four times, four of the sixteen talkers are left out: what
the network makes of them is printed, and says by how much its movements are too small. Then it is trained on all
talkers, with a gain for that. CHECKPOINT is read by `training.export_speech`. About two minutes a network on
one core.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.mouth.shape import CHANNELS, DEFAULT_SCALE, NUM_CHANNELS
from training.speech_alignment import fit_ridge
from training.speech_corpus import read_talkers
from training.speech_examples import Example, load_examples
from training.speech_network import NUM_FEATURES, NUM_MEMBERS, NUM_OUTPUTS, MouthEnsemble, MouthTcn

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
# A full correction of what is missing enlarges the errors as well.
_GAIN_POWER = 0.5
# What is missing in the movement of the corners `models.avatar.mouth_calibration` adds, by what the avatar shows.
_CORNERS = [CHANNELS.index("width"), CHANNELS.index("corner_y")]
_BATCH, _ROWS, _STEPS, _LEARNING_RATE, _WEIGHT_DECAY = 24, 150, 500, 2e-3, 2e-2
# Mouths open alike; what the corners do is a habit, and the tracker sees it on some faces only.
_MIN_AGREEMENT, _TRUST_POWERS = 0.1, np.array([5, 5, 9, 8, 5, 5, 8, 8])
# A talker with n clips is drawn in proportion to n to the power of 1 - this.
_EVENNESS = 0.35
# Clips are stretched in time by up to this exponent.
_STRETCH = 0.18
# Every second one of these windows of a clip has a piece of another talker's clip in it, of .3 to 1 s.
_SPLICE_WINDOW, _SPLICE_ROWS = 50, (15, 50)
# Rows to either side of a seam that teach nothing: mouths are ahead of what is heard, and behind it.
_SEAM_ROWS = 4
_OTHER_POOLS_WEIGHT, _VELOCITY_WEIGHT, _CORRELATION_WEIGHT, _CONTACT_WEIGHT = 0.6, 0.5, 0.5, 0.15
_CHANNEL_WEIGHTS = torch.tensor([2, 1, 1.5, 0.7, 1, 1, 0.4, 0.5])
FOLDS = (
    ("s1", "s16", "u_032621", "u_bbab8n"),
    ("s4", "s25", "s27", "u_032953"),
    ("s3", "s30", "s34", "u_120232"),
    ("s5", "s31", "s33", "u_122715"),
)

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
    """Draws batches: a pool, and in it an example; talkers with many clips are held back."""

    def __init__(self, examples: list[Example], seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._trust = talker_trust([e for e in examples if e.pool == "clean"])
        self._pools = {pool: [e for e in examples if e.pool == pool] for pool in _SHARES}
        self._weights = {pool: _example_weights(chosen) for pool, chosen in self._pools.items()}

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
        return self._spliced(Batch(*(torch.from_numpy(array) for array in (features, mouths, valid, kinds, trust))))

    def _spliced(self, batch: Batch) -> Batch:
        """Has talkers go on with another one's words, and come back.

        All sentences of the corpus have one grammar of six words, which a network would learn in place of sounds.
        """
        partner = torch.from_numpy(self._rng.permutation(_BATCH))
        is_taken = torch.zeros(_BATCH, _ROWS, dtype=torch.bool)
        for rows in is_taken:
            for window in range(0, _ROWS, _SPLICE_WINDOW):
                first = window + int(self._rng.integers(_SPLICE_WINDOW // 2))
                rows[first : first + int(self._rng.integers(*_SPLICE_ROWS))] = bool(self._rng.integers(2))
        is_taken &= ((batch.kinds == _REAL) & (batch.kinds[partner] == _REAL))[:, None]
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


_REAL, _TABLE, _REST = 0, 1, 2


def _kind(pool: str) -> int:
    return _TABLE if pool in _TABLE_POOLS else _REST if pool == "negative" else _REAL


def _example_weights(examples: list[Example]) -> NDArray[np.float64]:
    names, counts = np.unique([e.name for e in examples], return_counts=True)
    of_name = dict(zip(names.tolist(), counts**-_EVENNESS, strict=True))
    weights = np.array([of_name[e.name] for e in examples])
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def talker_trust(examples: list[Example]) -> dict[str, Floats]:
    """Says how far the tracked mouths of each talker can be trusted.

    A tracker mistakes the corners of some mouths, and some talkers have habits of their own: networks that learn the
    width from all alike know it of nobody. A ridge regression, fitted on the talker with the most clips, agrees with
    the channels that say something of other talkers too.

    Returns:
        (8,) weights of each talker: a power of the correlation, divided by its mean over examples.
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
    powers = {name: np.mean(values, 0).clip(_MIN_AGREEMENT, 1) ** _TRUST_POWERS for name, values in agreement.items()}
    mean = np.mean([powers[example.name] for example in examples], 0)
    return {name: (power / mean).astype(np.float32) for name, power in powers.items()}


def loss(outputs: Tensor, batch: Batch) -> Tensor:
    """Difference of position and velocity, correlation of each clip of a talker, and the contact.

    Args:
        outputs: (B, N, 18) of a `MouthTcn` with two heads.
        batch: What it was given, and what it should have said.
    """
    _, mouths, valid, kinds, trust = batch
    weights = trust * _CHANNEL_WEIGHTS / NUM_CHANNELS  # (B, 8)
    table = (kinds == _TABLE)[:, None, None]
    found = torch.where(table, outputs[..., NUM_OUTPUTS : NUM_OUTPUTS + NUM_CHANNELS], outputs[..., :NUM_CHANNELS])
    truth = mouths[..., :NUM_CHANNELS]
    rows = torch.where(kinds == _REAL, 1.0, _OTHER_POOLS_WEIGHT)[:, None] * valid
    position = F.smooth_l1_loss(found, truth, reduction="none", beta=0.5)  # (B, N, 8)
    velocity = (found.diff(dim=1) - truth.diff(dim=1)).abs()
    position, velocity = (position * weights[:, None]).sum(2), (velocity * weights[:, None]).sum(2)  # (B, N)
    contact = F.binary_cross_entropy_with_logits(outputs[..., NUM_CHANNELS], mouths[..., -1], reduction="none")
    unlike = ((1 - _correlation(found, truth, valid)) * weights).sum(1)  # (B,)
    total: Tensor = (
        ((position + _CONTACT_WEIGHT * contact) * rows).sum() / valid.sum()
        + _VELOCITY_WEIGHT * (velocity * rows[:, 1:]).sum() / valid.sum()
        + _CORRELATION_WEIGHT * (unlike * (kinds == _REAL)).mean()
    )
    return total


def _correlation(found: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """(B, 8) correlation over the valid rows."""
    mask = valid[..., None]
    count = mask.sum(1, keepdim=True)
    found = (found - (found * mask).sum(1, keepdim=True) / count) * mask
    truth = (truth - (truth * mask).sum(1, keepdim=True) / count) * mask
    shared: Tensor = (found * truth).sum(1) / (found.square().sum(1) * truth.square().sum(1) + 1e-3).sqrt()
    return shared


def train(examples: list[Example], seed: int, num_steps: int = _STEPS) -> MouthTcn:
    """Trains one network, in evaluation mode and with both heads."""
    torch.manual_seed(seed)
    network, batches = MouthTcn(num_heads=2), Batches(examples, seed)
    heard = np.concatenate([e.features.astype(np.float32) for e in examples[::5]])
    mean, deviation = torch.tensor(heard.mean(0)), torch.tensor(heard.std(0) + 0.05)
    optimiser = torch.optim.AdamW(network.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=num_steps, pct_start=0.1)
    network.train()
    for _ in range(num_steps):
        batch = batches.draw()
        optimiser.zero_grad()
        loss(network((batch.features - mean) / deviation), batch).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    network.absorb(mean, deviation)
    return network.eval()


def predict(network: torch.nn.Module, example: Example) -> Floats:
    """Returns the (N, 9) output of the first head."""
    with torch.no_grad():
        output = network(torch.from_numpy(example.features[None].astype(np.float32)))[0].numpy()
    first: Floats = output[:, :NUM_OUTPUTS]
    return first


def leave_talkers_out(examples: list[Example]) -> Floats:
    """Prints how well talkers are predicted that were left out.

    Returns:
        (8,) factor by which the predicted movement of each channel is too small.
    """
    ratios: list[Floats] = []
    for fold in FOLDS:
        heard = [e for e in examples if e.name not in fold]
        network = train(heard, seed=0).with_first_head(torch.ones(NUM_CHANNELS)).eval()
        for pool in ("clean", "room"):
            for talker in fold:
                scored = [_score(network, e) for e in examples if (e.pool, e.name) == (pool, talker)]
                print(pool, talker, *(f"{name} {value:.3f}" for name, value in _mean(scored).items()), flush=True)
        ratios += [
            np.mean([predict(network, e)[:, :NUM_CHANNELS].std(0) for e in examples if (e.pool, e.name) == key], 0)
            for key in (("clean", talker) for talker in fold)
        ]
    missing: Floats = (1 / np.exp(np.log(ratios).mean(0))).astype(np.float32)
    return missing


def _score(network: torch.nn.Module, example: Example) -> dict[str, float]:
    found, truth = predict(network, example), example.mouth
    scores = {name: _correlate(found, truth, CHANNELS.index(name)) for name in ("open_in", "width", "jaw")}
    opening, true_opening = found[:, 0], truth[:, 0]
    closed, truly = opening < 0.15 * np.quantile(opening, 0.95), true_opening < 0.15 * np.quantile(true_opening, 0.95)
    scores["precision"] = float((closed & truly).sum() / max(1, closed.sum()))
    scores["recall"] = float((closed & truly).sum() / max(1, truly.sum()))
    scores["deviation"] = float(opening.std() / true_opening.std())
    return scores


def _correlate(found: Floats, truth: Floats, channel: int) -> float:
    return float(np.corrcoef(found[:, channel], truth[:, channel])[0, 1])


def _mean(scored: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([s[name] for s in scored])) for name in scored[0]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads EXAMPLES and CORPORA and writes CHECKPOINT."""
    parser = argparse.ArgumentParser(description="Train the speech-to-mouth network.")
    for name in ("examples", "corpora", "checkpoint"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    examples = load_examples(options.examples)
    _, scales = read_talkers(options.corpora)
    average = np.exp(np.mean([np.log(scale) for scale in scales.values()], 0))
    missing = leave_talkers_out(examples)
    missing[_CORNERS] = 1
    gain = missing**_GAIN_POWER * average / DEFAULT_SCALE
    print("gain", gain.round(3))
    members = [train(examples, seed).with_first_head(torch.tensor(gain)) for seed in range(NUM_MEMBERS)]
    torch.save(MouthEnsemble(members).state_dict(), options.checkpoint)


if __name__ == "__main__":
    main()
