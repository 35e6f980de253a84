"""The generator in PyTorch: folded, in the fastest memory order, in half precision where that does not show."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from errors import WeightsError
from models.engines.compute.batch_norm import fold_batch_norm
from models.engines.compute.checkpoints import read_checkpoint
from models.engines.compute.device_feed import DeviceBatches
from models.engines.compute.precision import choose_precision
from models.engines.compute.torch_device import open_device, repeatable
from models.engines.contract import Machine
from models.engines.ultralight.face_box import MASK_COLUMNS, MASK_ROWS
from models.engines.ultralight.network import UltralightNetwork, published_names
from models.engines.ultralight.options import UltralightOptions
from models.engines.ultralight.roles import parameters_mismatch
from models.engines.ultralight.variant import SIDE, variant_of_tensors

_NUM_SAMPLES: Final = 4
_GRAIN: Final = 16  # pixels of a made-up face that have one colour
_LOUDNESS: Final = 0.3  # deviation of made-up sound; HuBERT's rows have about that


class TorchGenerator:
    """A checkpoint; satisfies `models.engines.ultralight.generator.Generator`.

    Args:
        path: The checkpoint.
        machine: Where it runs.
        options: Batch size and precision.

    Raises:
        WeightsError: It is damaged or no generator of this family.
        ConfigError: CUDA was asked for and cannot be used.
    """

    def __init__(self, path: Path, machine: Machine, options: UltralightOptions) -> None:
        self._device = open_device(machine)
        network = load_network(path)
        self.variant = network.variant
        fold_batch_norm(network)
        self._network = network.to(device=self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.batch_size = options.batch_for(machine.device)
        self._batches = DeviceBatches(self._device, self.batch_size)
        with repeatable():
            self.dtype = choose_precision(self._run_samples, options.precision, self._device)
            self._network.to(self.dtype)

    def generate(
        self, faces: NDArray[np.uint8], audio: NDArray[np.float32], should_stop: Callable[[], bool] = lambda: False
    ) -> NDArray[np.uint8]:
        """Paint N faces; see `models.engines.ultralight.generator.Generator.generate`."""
        painted = np.empty_like(faces)
        self._batches.fill(painted, (faces, audio), self._paint, should_stop)
        return painted

    def _paint(self, faces: Tensor, audio: Tensor) -> Tensor:
        return rgb_levels(self._network(picture_input(faces, self.dtype), audio.to(self.dtype)))

    def _run_samples(self, dtype: torch.dtype) -> Tensor:
        """(4, 3, 160, 160) what a copy of the network in `dtype` paints of made-up faces."""
        network = self._network if dtype == torch.float32 else deepcopy(self._network).to(dtype)
        rng = np.random.RandomState(0)
        coarse = rng.randint(0, 256, (_NUM_SAMPLES, SIDE // _GRAIN, SIDE // _GRAIN, 3)).astype(np.uint8)
        faces = torch.from_numpy(coarse.repeat(_GRAIN, 1).repeat(_GRAIN, 2)).to(self._device)
        sound = rng.normal(0, _LOUDNESS, (_NUM_SAMPLES, *self.variant.audio_shape)).astype(np.float32)
        painted: Tensor = network(picture_input(faces, dtype), torch.from_numpy(sound).to(self._device, dtype))
        return painted


def load_network(path: Path) -> UltralightNetwork:
    """Read a checkpoint of either generation, plain or under `model`, on the CPU, in evaluation mode.

    Raises:
        WeightsError: It is damaged or no generator of this family.
    """
    parameters = published_names(read_checkpoint(path))
    shapes = {name: tuple(tensor.shape) for name, tensor in parameters.items()}
    variant = variant_of_tensors(shapes)
    mismatch = parameters_mismatch(shapes)
    if variant is None or mismatch:
        raise WeightsError(f"{path.name}: {mismatch}.")
    network = UltralightNetwork(variant.hears, variant.num_frames, variant.width)
    # Not strict: counters of batch normalisation may be missing; all else was compared.
    network.load_state_dict({name: tensor.float() for name, tensor in parameters.items()}, strict=False)
    return network.eval().requires_grad_(False)


def picture_input(faces: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return (B, 6, 160, 160), 0 to 1, of (B, 160, 160, 3) uint8 BGR: as they are, then with the mouth masked.

    The reference is the frame itself, as in inference.py; in training it was another frame of the same person.
    """
    # Channels last in memory: the picture's own order, and that in which convolutions are fastest.
    seen = torch.empty((*faces.shape[:3], 6), dtype=dtype, device=faces.device)
    seen[..., :3] = faces.float() / 255
    seen[..., 3:] = seen[..., :3]
    seen[:, MASK_ROWS, MASK_COLUMNS, 3:] = 0
    return seen.permute(0, 3, 1, 2)


def rgb_levels(painted: Tensor) -> Tensor:
    """Round (B, 3, H, W) BGR from 0 to 1 to (B, H, W, 3) uint8 RGB."""
    levels = (painted.float() * 255).round_().clamp_(0, 255).to(torch.uint8)
    return levels.flip(1).permute(0, 2, 3, 1).contiguous()
