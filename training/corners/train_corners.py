"""Adds networks that predict the corners of the mouth to the shipped speech network.

    python -m training.corners.train_corners EXAMPLES JAVANESE CORPORA FOLDER

EXAMPLES and JAVANESE are files of `training.speech_examples`, CORPORA is the folder of `training.speech_corpus`. FOLDER
holds `speech_to_mouth.onnx` of `training.corners.refit_width`, which is overwritten. The networks are those of
`training.train_speech`, trained on the speakers of both corpora. Width, protrusion and corner height become the mean of
all networks; the other channels and the contact stay as they are, because networks that learned from both corpora miss
more closed lips. What the new networks make of left-out speakers is printed. About one and a half minutes a network on
one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from models.mouth.shape import CHANNELS
from training.export_speech import MOUTH_NAME, export_mouth, read_mouth
from training.speech_batches import TRUST_POWERS
from training.speech_examples import load_examples
from training.speech_network import NUM_OUTPUTS, MouthEnsemble, MouthTcn
from training.train_speech import train_members

_CORNERS = [CHANNELS.index(name) for name in ("width", "protrude", "corner_y")]
_OTHERS = [output for output in range(NUM_OUTPUTS) if output not in _CORNERS]
# With 9, one speaker of GRID would teach the width. Left-out speakers have a width r of .66 (GRID) and .67 (Javanese).
_CORNER_POWER = 2
_POWERS = [_CORNER_POWER if channel in _CORNERS else power for channel, power in enumerate(TRUST_POWERS)]


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads EXAMPLES, JAVANESE and CORPORA and overwrites the network in FOLDER."""
    parser = argparse.ArgumentParser(description="Add networks for the corners of the mouth.")
    for name in ("examples", "javanese", "corpora", "folder"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    path = options.folder / MOUTH_NAME
    network = read_mouth(path)
    corpora = [load_examples(options.examples), load_examples(options.javanese)]
    export_mouth(with_corners(network, train_members(corpora, options.corpora, _POWERS)), path)


if __name__ == "__main__":
    main()
