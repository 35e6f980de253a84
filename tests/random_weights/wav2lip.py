"""Wav2Lip in its published sizes: a checkpoint, and an ONNX export of the same network."""

import warnings
from pathlib import Path

import torch

from models.engines.runtime.checkpoints import shapes_of
from models.engines.wav2lip.network import Size, Wav2LipNetwork, network_without_values
from models.engines.wav2lip.weights import MEL_BANDS, WINDOW_COLUMNS
from tests.random_weights.parameters import made_up


def save_wav2lip(path: Path, size: int = 96) -> Path:
    """Writes a checkpoint in Wav2Lip's format."""
    torch.save({"state_dict": made_up(shapes_of(network_without_values(_known(size))))}, path)
    return path


def save_wav2lip_onnx(path: Path, size: int = 96) -> Path:
    """Exports the network of `save_wav2lip` with a dynamic batch size."""
    network = Wav2LipNetwork(_known(size))
    network.load_state_dict(made_up(shapes_of(network)), strict=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the current exporter needs another package
        torch.onnx.export(
            network.eval(),
            (torch.zeros(1, 1, MEL_BANDS, WINDOW_COLUMNS), torch.zeros(1, 6, size, size)),
            str(path),
            input_names=["mel", "face"],
            output_names=["painted"],
            dynamic_axes={name: {0: "batch"} for name in ("mel", "face", "painted")},
            opset_version=17,
            dynamo=False,
        )
    return path


def _known(size: int) -> Size:
    if size not in (96, 256):
        raise ValueError(f"Expected a network of 96 or 256 pixels, got {size}.")
    return 96 if size == 96 else 256
