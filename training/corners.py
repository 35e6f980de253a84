"""Improves the corners of the mouth of the speech network: width, protrusion and corner height.

    python -m training.corners EXAMPLES JAVANESE CORPORA FOLDER

EXAMPLES and JAVANESE are files of `training.speech_examples`, CORPORA is the folder of `training.speech_corpus`. FOLDER
holds `speech_to_mouth.onnx` of `training.export_speech`, which is overwritten.

First, the width is fitted again to the hidden layer, because that of the network follows the one GRID speaker with many
sentences: a linear head for all speakers of both corpora, and noises with a mouth at rest. This prints the correlation
of the width for Javanese speakers, each left out of the fit, before and after. Then the networks of
`training.train_speech` are trained on the speakers of both corpora, which prints what they make of left-out speakers.
Width, protrusion and corner height become the mean of all networks; the other channels and the contact stay as they
are, because networks that learned from both corpora miss more closed lips. About one and a half minutes a network on
one core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

from models.mouth.shape import CHANNELS, DEFAULT_SCALE
from training.export_speech import MOUTH_NAME, export_mouth, read_mouth
from training.speech_batches import TRUST_POWERS
from training.speech_corpus import read_talkers
from training.speech_examples import Example, load_examples
from training.speech_network import NUM_OUTPUTS, MouthEnsemble, MouthTcn
from training.train_speech import train_members

_WIDTH = CHANNELS.index("width")
_POOLS, _NOISE = ("clean", "tape", "room"), ("negative",)
# Shares of the GRID speakers, the Javanese speakers and the noises. GRID has more speakers, but all its sentences share
# one grammar of six words. With .5 and .5, .3 and .7, .15 and .85, left-out Javanese speakers have r .59, .60 and .61.
# Without the noises, they narrow the mouth by .01 eye distances; with them by less than .001.
_SHARES = (0.2, 0.8, 0.3)
# A speaker with n rows weighs n to the power of this.
_EVENNESS = 0.35
# Weight of the prior around 0, relative to the weight of the rows.
_RIDGE, _BIAS_RIDGE = 0.1, 1e-4

_CORNERS = [CHANNELS.index(name) for name in ("width", "protrude", "corner_y")]
_OTHERS = [output for output in range(NUM_OUTPUTS) if output not in _CORNERS]
# With 9, one speaker of GRID would teach the width. Left-out speakers have a width r of .66 (GRID) and .67 (Javanese).
_CORNER_POWER = 2
_POWERS = [_CORNER_POWER if channel in _CORNERS else power for channel, power in enumerate(TRUST_POWERS)]

Floats = NDArray[np.float64]


@dataclass
class _Speaker:
    """Sums over the rows of a speaker: of products of the hidden layer, of those with the width, and of rows."""

    gram: Floats
    shared: Floats
    num_rows: int = 0


class WidthFit:
    """Ridge regression of the width from the hidden layer, over speakers of several corpora.

    Args:
        network: The network whose hidden layer is read.
        corpora: Examples of each corpus.
        shares: Weight of each corpus.
    """

    def __init__(self, network: MouthEnsemble, corpora: Sequence[list[Example]], shares: Sequence[float]) -> None:
        self._network, self._shares = network, shares
        self._corpora = [self._sums(examples) for examples in corpora]

    def solve(self, left_out: str = "") -> Floats:
        """Returns (H + 1,) weights of the hidden layer and the bias, in standard deviations of a speaker.

        The speaker `left_out` is not learned from.
        """
        size = len(next(iter(self._corpora[0].values())).shared)
        gram, shared, total = np.zeros((size, size)), np.zeros(size), 0.0
        for share, corpus in zip(self._shares, self._corpora, strict=True):
            kept = {name: speaker for name, speaker in corpus.items() if name != left_out}
            weights = {name: speaker.num_rows**_EVENNESS for name, speaker in kept.items()}
            for name, speaker in kept.items():
                weight = share * weights[name] / sum(weights.values())
                gram += weight / speaker.num_rows * speaker.gram
                shared += weight / speaker.num_rows * speaker.shared
                total += weight
        prior = np.full(size, _RIDGE)
        prior[-1] = _BIAS_RIDGE
        return np.asarray(np.linalg.solve(gram + total * np.diag(prior), shared), np.float64)

    def hidden(self, example: Example) -> Floats:
        """Returns the (N, H + 1) hidden layer of an example, with a column of ones."""
        with torch.no_grad():
            hidden = self._network(torch.from_numpy(example.features[None].astype(np.float32)))[1][0].numpy()
        return np.hstack([hidden.astype(np.float64), np.ones((len(hidden), 1))])

    def _sums(self, examples: list[Example]) -> dict[str, _Speaker]:
        speakers: dict[str, _Speaker] = {}
        for example in examples:
            rows, width = self.hidden(example), example.mouth[:, _WIDTH].astype(np.float64)
            size = rows.shape[1]
            speaker = speakers.setdefault(example.name, _Speaker(np.zeros((size, size)), np.zeros(size)))
            speaker.gram += rows.T @ rows
            speaker.shared += rows.T @ width
            speaker.num_rows += len(rows)
        return speakers


def with_width_head(network: MouthEnsemble, weights: Floats) -> MouthEnsemble:
    """Returns a network whose width is read from its hidden layer by (H + 1,) `weights`."""
    state, num_members = network.state_dict(), len(network.members)
    parts = np.split(weights[:-1] * num_members**0.5, num_members)
    for index, part in enumerate(parts):
        head, bias = state[f"members.{index}.head.weight"].clone(), state[f"members.{index}.head.bias"].clone()
        head[_WIDTH, :, 0], bias[_WIDTH] = torch.from_numpy(part), float(weights[-1])
        state |= {f"members.{index}.head.weight": head, f"members.{index}.head.bias": bias}
    return MouthEnsemble.from_state(state)


def print_left_out(fit: WidthFit, network: MouthEnsemble, examples: list[Example]) -> None:
    """Prints the correlation of the width for each speaker of `examples`, as predicted by `network` and refitted."""
    for name in sorted({example.name for example in examples}):
        weights, scores = fit.solve(left_out=name), []
        for example in (e for e in examples if (e.pool, e.name) == ("clean", name)):
            with torch.no_grad():
                before = network(torch.from_numpy(example.features[None].astype(np.float32)))[0][0, :, _WIDTH].numpy()
            truth = example.mouth[:, _WIDTH]
            scores.append([np.corrcoef(found, truth)[0, 1] for found in (before, fit.hidden(example) @ weights)])
        old, new = np.mean(scores, 0)
        print(f"{name}: width r before {old:.3f}, left out of the fit {new:.3f}", flush=True)


def _of_pools(examples: list[Example], pools: tuple[str, ...]) -> list[Example]:
    return [example for example in examples if example.pool in pools]


def with_corners(network: MouthEnsemble, members: Sequence[MouthTcn]) -> MouthEnsemble:
    """Returns a network with additional `members`, which share in the corners of the mouth alone."""
    own = cast(Sequence[MouthTcn], network.members)
    num_members = len(own) + len(members)
    state: dict[str, Tensor] = {}
    for number, member in enumerate((*own, *members)):
        share = num_members / len(own) if number < len(own) else 0.0
        for name, values in member.state_dict().items():
            state[f"members.{number}.{name}"] = values.clone()
            if name in ("head.weight", "head.bias"):
                state[f"members.{number}.{name}"][_OTHERS] *= share
    return MouthEnsemble.from_state(state)


def main(examples: Path, javanese: Path, corpora: Path, folder: Path) -> None:
    """Reads EXAMPLES, JAVANESE and CORPORA and overwrites the network in FOLDER."""
    torch.set_num_threads(1)
    network = read_mouth(folder / MOUTH_NAME)
    heard = [load_examples(examples), load_examples(javanese)]
    fit = WidthFit(network, [*(_of_pools(each, _POOLS) for each in heard), _of_pools(heard[0], _NOISE)], _SHARES)
    print_left_out(fit, network, heard[1])
    _, scales = read_talkers(corpora)
    usual = float(np.exp(np.mean([np.log(scale[_WIDTH]) for scale in scales.values()])) / DEFAULT_SCALE[_WIDTH])
    refitted = with_width_head(network, fit.solve() * usual)
    export_mouth(with_corners(refitted, train_members(heard, corpora, _POWERS)), folder / MOUTH_NAME)


if __name__ == "__main__":
    typer.run(main)
