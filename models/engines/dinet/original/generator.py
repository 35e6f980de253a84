"""Runs the original DINet: in batches of one size, and in half precision where that does not show."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.engines.compute.device_feed import DeviceBatches
from models.engines.compute.precision import Precision, choose_precision
from models.engines.compute.torch_device import open_device, repeatable
from models.engines.contract import Machine
from models.engines.dinet.crop_layout import CropLayout
from models.engines.dinet.original.checkpoint import load_dinet
from models.engines.dinet.original.folding import fold_norms
from models.engines.dinet.original.network import Reference

# What half precision costs is measured on a quarter of the published crop: the same layers, and seconds less to load.
_SAMPLE_SIZE: Final = (208, 160)
_SAMPLE_SEED: Final = 7


class DinetGenerator:
    """The loaded network.

    Args:
        path: The checkpoint.
        machine: Where it runs.
        layout: Size of the crop, and where the masked one is black.
        batch_size: Frames at a time; batches are filled up, so a frame's bytes do not depend on its neighbours.
        precision: "auto" computes in half precision where the user's own weights give nearly the same picture so.

    Raises:
        WeightsError: The file is missing or is not DINet.
        ConfigError: CUDA was asked for and cannot be used.
    """

    def __init__(
        self, path: Path, machine: Machine, layout: CropLayout, batch_size: int = 1, precision: Precision = "auto"
    ) -> None:
        self._device, self._layout = open_device(machine), layout
        network = load_dinet(path)
        fold_norms(network)
        self._network = network.to(device=self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._batches = DeviceBatches(self._device, batch_size)
        self.dtype = torch.float32
        """What it computes in."""
        self.dtype = choose_precision(self._run_sample, precision, self._device)
        self._known: tuple[bytes, Reference] | None = None

    def generate(
        self,
        crops: NDArray[np.uint8],
        references: NDArray[np.uint8],
        speech: NDArray[np.float32],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> NDArray[np.uint8]:
        """Make N crops.

        Args:
            crops: (N, 416, 320, 3) uint8 RGB, as they are.
            references: (5, 416, 320, 3) uint8 RGB, the avatar's.
            speech: (N, 29, 5) float32 DeepSpeech windows.
            should_stop: See `contract.Painter.paint`.

        Returns:
            (N, 416, 320, 3) uint8 RGB.
        """
        painted, avatar = np.empty_like(crops), references.tobytes()
        with repeatable(), self._casting(self.dtype):
            known = self._know(avatar, references)
            paint = partial(self._paint, known)
            self._batches.fill(painted, (crops, speech), paint, should_stop, together=avatar)
        return painted

    def _know(self, avatar: bytes, references: NDArray[np.uint8]) -> Reference:
        """What the network knows of an avatar's references; the last avatar's is kept."""
        known = self._known
        if known is None or known[0] != avatar:
            pictures = _planes(torch.from_numpy(references).to(self._device))
            known = self._known = avatar, self._network.know(_stacked(pictures))
        return known[1]

    def _paint(self, known: Reference, crops: Tensor, speech: Tensor) -> Tensor:
        source = _planes(crops)
        source[self._layout.masked] = 0
        painted: Tensor = self._network.speak(source, known, speech).float()
        levels = (painted * 255).round_().clamp_(0, 255).to(torch.uint8)
        return levels.permute(0, 2, 3, 1).contiguous()

    def _casting(self, dtype: torch.dtype) -> torch.autocast:
        return torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32)

    def _run_sample(self, dtype: torch.dtype) -> Tensor:
        """A made-up face that says something, in a precision."""
        made = np.random.default_rng(_SAMPLE_SEED)
        coarse = torch.from_numpy(made.random((6, 3, 13, 10), np.float32)).to(self._device)
        faces = F.interpolate(coarse, _SAMPLE_SIZE, mode="bilinear")
        speech = torch.from_numpy(made.normal(0, 3, (1, 29, 5)).astype(np.float32)).to(self._device)
        with repeatable(), self._casting(dtype):
            painted: Tensor = self._network(faces[:1], _stacked(faces[1:]), speech)
        return painted


def _planes(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) float32 in [0, 1] of (N, H, W, 3) uint8, channels last in memory."""
    return (pictures.float() / 255).permute(0, 3, 1, 2)


def _stacked(pictures: Tensor) -> Tensor:
    """(1, 15, H, W) of (5, 3, H, W), channels last in memory."""
    return pictures.reshape(1, -1, *pictures.shape[2:]).contiguous(memory_format=torch.channels_last)
