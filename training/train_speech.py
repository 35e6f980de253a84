"""Trains the network that maps speech features to the mouth.

    python -m training.train_speech EXAMPLES CORPORA CHECKPOINT

EXAMPLES is the file of `training.speech_examples`. Four times, four of the sixteen talkers are left out: what
the network makes of them is printed, and says by how much its movements are too small. Then it is trained on all
talkers, with a gain for that. CHECKPOINT is read by `training.export_speech`. About one and a half minutes a network on
one core.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import typer
from numpy.typing import NDArray
from torch import Tensor

from models.mouth.shape import CHANNELS, DEFAULT_SCALE, NUM_CHANNELS
from training.speech_batches import REAL, TABLE, TRUST_POWERS, Batch, Batches
from training.speech_corpus import read_talkers
from training.speech_examples import Example, load_examples
from training.speech_network import NUM_MEMBERS, NUM_OUTPUTS, MouthEnsemble, MouthTcn

# A full correction of what is missing enlarges the errors as well.
_GAIN_POWER = 0.5
# What is missing in the movement of the corners `models.avatar.mouth_calibration` adds, by what the avatar shows.
_CORNERS = [CHANNELS.index("width"), CHANNELS.index("corner_y")]
_STEPS, _LEARNING_RATE, _WEIGHT_DECAY = 500, 2e-3, 2e-2
_OTHER_POOLS_WEIGHT, _VELOCITY_WEIGHT, _CORRELATION_WEIGHT, _CONTACT_WEIGHT = 0.6, 0.5, 0.5, 0.15
_CHANNEL_WEIGHTS = torch.tensor([2, 1, 1.5, 0.7, 1, 1, 0.4, 0.5])
# Speakers of GRID, and of the Javanese corpus.
FOLDS = (
    ("s1", "s16", "u_032621", "u_bbab8n", "01", "06"),
    ("s4", "s25", "s27", "u_032953", "02", "07"),
    ("s3", "s30", "s34", "u_120232", "03", "08"),
    ("s5", "s31", "s33", "u_122715", "04", "05", "09"),
)

Floats = NDArray[np.float32]


def loss(outputs: Tensor, batch: Batch) -> Tensor:
    """Difference of position and velocity, correlation of each clip of a talker, and the contact.

    Args:
        outputs: (B, N, 18) of a `MouthTcn` with two heads.
        batch: What it was given, and what it should have said.
    """
    _, mouths, valid, kinds, trust = batch
    weights = trust * _CHANNEL_WEIGHTS / NUM_CHANNELS  # (B, 8)
    table = (kinds == TABLE)[:, None, None]
    found = torch.where(table, outputs[..., NUM_OUTPUTS : NUM_OUTPUTS + NUM_CHANNELS], outputs[..., :NUM_CHANNELS])
    truth = mouths[..., :NUM_CHANNELS]
    rows = torch.where(kinds == REAL, 1.0, _OTHER_POOLS_WEIGHT)[:, None] * valid
    position = F.smooth_l1_loss(found, truth, reduction="none", beta=0.5)  # (B, N, 8)
    velocity = (found.diff(dim=1) - truth.diff(dim=1)).abs()
    position, velocity = (position * weights[:, None]).sum(2), (velocity * weights[:, None]).sum(2)  # (B, N)
    contact = F.binary_cross_entropy_with_logits(outputs[..., NUM_CHANNELS], mouths[..., -1], reduction="none")
    unlike = ((1 - _correlation(found, truth, valid)) * weights).sum(1)  # (B,)
    total: Tensor = (
        ((position + _CONTACT_WEIGHT * contact) * rows).sum() / valid.sum()
        + _VELOCITY_WEIGHT * (velocity * rows[:, 1:]).sum() / valid.sum()
        + _CORRELATION_WEIGHT * (unlike * (kinds == REAL)).mean()
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


def train(
    corpora: Sequence[list[Example]], seed: int, num_steps: int = _STEPS, trust_powers: Sequence[int] = TRUST_POWERS
) -> MouthTcn:
    """Trains one network, in evaluation mode and with both heads; arguments as for `Batches`."""
    torch.manual_seed(seed)
    network, batches = MouthTcn(num_heads=2), Batches(corpora, seed, trust_powers)
    examples = [example for corpus in corpora for example in corpus]
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


def without(corpora: Sequence[list[Example]], talkers: Sequence[str]) -> list[list[Example]]:
    """Returns the corpora without some speakers."""
    return [[example for example in corpus if example.name not in talkers] for corpus in corpora]


def leave_talkers_out(corpora: Sequence[list[Example]], trust_powers: Sequence[int] = TRUST_POWERS) -> Floats:
    """Prints how well talkers are predicted that were left out.

    Returns:
        (8,) factor by which the predicted movement of each channel is too small, for speakers of the first corpus.
    """
    ratios: list[Floats] = []
    for fold in FOLDS:
        heard = without(corpora, fold)
        network = train(heard, 0, trust_powers=trust_powers).with_first_head(torch.ones(NUM_CHANNELS)).eval()
        for number, corpus in enumerate(corpora):
            for talker in sorted({e.name for e in corpus}.intersection(fold)):
                for pool in ("clean", "room"):
                    scored = [_score(network, e) for e in corpus if (e.pool, e.name) == (pool, talker)]
                    print(pool, talker, *(f"{name} {value:.3f}" for name, value in _mean(scored).items()), flush=True)
                clips = [e for e in corpus if (e.pool, e.name) == ("clean", talker)]
                if number == 0:
                    ratios.append(np.mean([predict(network, e)[:, :NUM_CHANNELS].std(0) for e in clips], 0))
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


def train_members(
    corpora: Sequence[list[Example]], folder: Path, trust_powers: Sequence[int] = TRUST_POWERS
) -> list[MouthTcn]:
    """Leaves talkers out, then trains on all of them; returns networks with one head, with the amplitude of GRID.

    Args:
        corpora: As for `Batches`.
        folder: The corpora, for the amplitudes of the speakers.
        trust_powers: As for `Batches`.
    """
    _, scales = read_talkers(folder)
    average = np.exp(np.mean([np.log(scale) for scale in scales.values()], 0))
    missing = leave_talkers_out(corpora, trust_powers)
    missing[_CORNERS] = 1
    gain = missing**_GAIN_POWER * average / DEFAULT_SCALE
    print("gain", gain.round(3))
    networks = (train(corpora, seed, trust_powers=trust_powers) for seed in range(NUM_MEMBERS))
    return [network.with_first_head(torch.tensor(gain)) for network in networks]


def main(examples: Path, corpora: Path, checkpoint: Path) -> None:
    """Reads EXAMPLES and CORPORA and writes CHECKPOINT."""
    torch.set_num_threads(1)
    torch.save(MouthEnsemble(train_members([load_examples(examples)], corpora)).state_dict(), checkpoint)


if __name__ == "__main__":
    typer.run(main)
