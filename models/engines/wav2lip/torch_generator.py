"""The generator in PyTorch: folded, in the fastest memory order, in half precision where that does not show."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from errors import WeightsError
from models.engines.compute.batch_norm import fold_batch_norm
from models.engines.compute.batches import advise_batch, usual_batch
from models.engines.compute.checkpoints import read_checkpoint
from models.engines.compute.device_feed import DeviceBatches
from models.engines.compute.precision import choose_precision
from models.engines.compute.torch_device import open_device, repeatable
from models.engines.contract import Machine
from models.engines.wav2lip.network import Wav2LipNetwork
from models.engines.wav2lip.options import Wav2LipOptions
from models.engines.wav2lip.samples import sample_faces, sample_windows
from models.engines.wav2lip.weights import parameters_mismatch, variant_of

_NUM_SAMPLES = 4


class TorchGenerator:
    """A published checkpoint; satisfies `models.engines.wav2lip.generator.Generator`.

    Args:
        path: The checkpoint.
        machine: Where it runs.
        options: Batch size and precision.

    Raises:
        WeightsError: It is damaged or not a Wav2Lip generator.
        ConfigError: CUDA was asked for and cannot be used.
    """

    def __init__(self, path: Path, machine: Machine, options: Wav2LipOptions) -> None:
        self._device = open_device(machine)
        network = load_network(path)
        self.size: int = network.size
        fold_batch_norm(network)
        self._network = network.to(device=self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.batch_size = options.batch_size or usual_batch(machine.device)
        self._batches = DeviceBatches(self._device, self.batch_size)
        with repeatable():
            self.dtype = choose_precision(self._run_samples, options.precision, self._device)
            self._network.to(self.dtype)
            if options.measure_batch:
                advise_batch(self._time, self.batch_size)

    def generate(
        self, faces: NDArray[np.uint8], windows: NDArray[np.float32], should_stop: Callable[[], bool] = lambda: False
    ) -> NDArray[np.uint8]:
        """Paint N faces; see `models.engines.wav2lip.generator.Generator.generate`."""
        painted = np.empty_like(faces)
        self._batches.fill(painted, (faces, windows), self._paint, should_stop)
        return painted

    def _paint(self, faces: Tensor, windows: Tensor) -> Tensor:
        return face_levels(self._network(windows[:, None].to(self.dtype), face_input(faces, self.dtype)))

    def _run_samples(self, dtype: torch.dtype) -> Tensor:
        """(4, 3, S, S) what a copy of the network in `dtype` paints of made-up faces."""
        network = self._network if dtype == torch.float32 else deepcopy(self._network).to(dtype)
        faces = torch.from_numpy(sample_faces(_NUM_SAMPLES, self.size)).to(self._device)
        windows = torch.from_numpy(sample_windows(_NUM_SAMPLES)).to(self._device)
        painted: Tensor = network(windows[:, None].to(dtype), face_input(faces, dtype))
        return painted

    def _time(self, batch: int) -> None:
        faces = torch.zeros((batch, self.size, self.size, 3), dtype=torch.uint8, device=self._device)
        self._paint(faces, torch.from_numpy(sample_windows(batch)).to(self._device)).cpu()


def load_network(path: Path) -> Wav2LipNetwork:
    """Read a checkpoint into a network, on the CPU, in evaluation mode.

    Raises:
        WeightsError: It is damaged or not a Wav2Lip generator.
    """
    parameters = read_checkpoint(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in parameters.items()}
    if mismatch := parameters_mismatch(shapes):
        raise WeightsError(f"{path.name}: {mismatch}.")
    with torch.device("meta"):  # made without values: to make up millions that are replaced at once takes a second
        network = Wav2LipNetwork(variant_of(shapes))
    # Not strict: counters of batch normalisation, which nothing reads, may be missing. All else was compared.
    network.load_state_dict({name: tensor.float() for name, tensor in parameters.items()}, strict=False, assign=True)
    return network.eval().requires_grad_(False)


def face_input(faces: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return (B, 6, S, S), 0 to 1, of (B, S, S, 3) uint8 BGR: with the lower half black, then as they are."""
    batch, size = faces.shape[:2]
    # Channels last in memory: the picture's own order, and that in which convolutions are fastest.
    seen = torch.empty((batch, size, size, 6), dtype=dtype, device=faces.device)
    seen[..., 3:] = faces.float() / 255
    seen[..., :3] = seen[..., 3:]
    seen[:, size // 2 :, :, :3] = 0
    return seen.permute(0, 3, 1, 2)


def face_levels(painted: Tensor) -> Tensor:
    """Round (B, 3, S, S) values from 0 to 1 to (B, S, S, 3) uint8."""
    return (painted.float() * 255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
