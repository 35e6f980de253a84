"""Writes the two speech networks as the ONNX files that Lipwright loads.

    python -m models.training.export_speech CHECKPOINT FOLDER

CHECKPOINT is a torch file with a dict {"speech_embedding_taps": state_dict, "speech_to_mouth": state_dict} of the
modules in `models.training.speech_network`. The initializers of the ONNX files keep the names of the parameters, so the
shipped files are checkpoints as well: `read_state` turns one back into a state dict, to train on from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from models.training.speech_network import NUM_BANDS, NUM_FEATURES, MouthEnsemble, SpeechEmbeddingTaps

# 17 is the oldest operator set with everything that these networks use; older ONNX Runtimes read it too.
_OPSET = 17


def export_embedding(network: SpeechEmbeddingTaps, path: Path) -> None:
    """Writes `network` with input `mel` (1, T, 32), T even, and output `features` (1, T / 2, 384)."""
    _export(network, path, torch.zeros(1, 200, NUM_BANDS), names=("mel", "features"), axes=("frames", "rows"))


def export_mouth(network: MouthEnsemble, path: Path) -> None:
    """Writes `network` with input `features` (1, N, 384) and output `mouth` (1, N, 9)."""
    _export(network, path, torch.zeros(1, 100, NUM_FEATURES), names=("features", "mouth"), axes=("rows", "rows"))


def read_state(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """Returns the state dict of `network` out of a file that this module wrote.

    Raises:
        ValueError: A parameter of `network` is not in the file.
    """
    stored = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    if missing := network.state_dict().keys() - stored.keys():
        raise ValueError(f"Expected every parameter of {type(network).__name__} in {path.name}, missing {missing}.")
    return {name: torch.tensor(numpy_helper.to_array(stored[name])) for name in network.state_dict()}


def _export(network: nn.Module, path: Path, example: Tensor, names: tuple[str, str], axes: tuple[str, str]) -> None:
    # The tracing exporter keeps the parameter names; nothing here branches on values.
    torch.onnx.export(
        network.eval(),
        (example,),
        path,
        input_names=[names[0]],
        output_names=[names[1]],
        dynamic_axes={names[0]: {1: axes[0]}, names[1]: {1: axes[1]}},
        opset_version=_OPSET,
        dynamo=False,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads CHECKPOINT and writes both files into FOLDER."""
    parser = argparse.ArgumentParser(description="Export the speech networks to ONNX.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    state = torch.load(options.checkpoint, weights_only=True)
    embedding, mouth = SpeechEmbeddingTaps(), MouthEnsemble()
    embedding.load_state_dict(state["speech_embedding_taps"])
    mouth.load_state_dict(state["speech_to_mouth"])
    export_embedding(embedding, options.folder / "speech_embedding_taps.onnx")
    export_mouth(mouth, options.folder / "speech_to_mouth.onnx")


if __name__ == "__main__":
    main()
