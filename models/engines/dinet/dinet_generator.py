"""Runs the original DINet: in batches of one size, and in half precision where that does not show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.engines.compute.batches import fixed_batches
from models.engines.compute.device_feed import DeviceFeed
from models.engines.compute.precision import Precision, choose_precision
from models.engines.compute.torch_device import open_device, repeatable
from models.engines.contract import Machine
from models.engines.dinet.checkpoint import load_dinet
from models.engines.dinet.folding import fold_norms
from models.engines.dinet.network import Reference

_HEIGHT, _WIDTH = 416, 320
_CHECK_SEED: Final = 7


class DinetGenerator:
    """The loaded network.

    Args:
        path: The checkpoint.
        machine: Where it runs.
        batch_size: Frames at a time; batches are filled up, so a frame's bytes do not depend on its neighbours.
        precision: "auto" computes in half precision where the user's own weights give nearly the same picture so.

    Raises:
        WeightsError: The file is missing or is not DINet.
        ConfigError: CUDA was asked for and cannot be used.
    """

    def __init__(self, path: Path, machine: Machine, batch_size: int = 1, precision: Precision = "auto") -> None:
        self._device = open_device(machine)
        network = load_dinet(path)
        fold_norms(network)
        self._network = network.to(self._device)
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self._feed, self._batch_size = DeviceFeed(self._device), batch_size
        self._dtype = torch.float32
        self._dtype = choose_precision(self._try, precision, self._device)
        self._known: tuple[bytes, Reference] | None = None

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self._dtype

    def __call__(
        self, source: NDArray[np.float32], references: NDArray[np.uint8], speech: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Make N crops.

        Args:
            source: (N, 3, 416, 320) float32 RGB in [0, 1], the mouth black.
            references: (5, 416, 320, 3) uint8 RGB, the presenter's.
            speech: (N, 29, 5) float32 DeepSpeech windows.

        Returns:
            (N, 3, 416, 320) float32 RGB in [0, 1].
        """
        if not len(source):
            return np.empty((0, 3, _HEIGHT, _WIDTH), np.float32)
        with repeatable(), self._casting(self._dtype):
            known = self._know(references)
            batches = fixed_batches((source, speech), self._batch_size)
            made: Iterator[NDArray[np.generic]] = self._feed.run(
                batches, lambda own, said: self._network.speak(self._laid_out(own), known, said).float()
            )
            return np.concatenate([np.asarray(part, np.float32) for part in made])

    def _know(self, references: NDArray[np.uint8]) -> Reference:
        """What the network knows of a presenter's references; the last presenter's is kept."""
        key = references.tobytes()
        if self._known is None or self._known[0] != key:
            stacked = references.transpose(0, 3, 1, 2).reshape(1, -1, *references.shape[1:3])  # (1, 15, H, W)
            pictures = torch.from_numpy(stacked.astype(np.float32) / 255).to(self._device)
            self._known = key, self._network.know(self._laid_out(pictures))
        return self._known[1]

    def _laid_out(self, pictures: Tensor) -> Tensor:
        return pictures.contiguous(memory_format=torch.channels_last)

    def _casting(self, dtype: torch.dtype) -> torch.autocast:
        return torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32)

    def _try(self, dtype: torch.dtype) -> Tensor:
        """A made-up face that says something, in a precision."""
        made = np.random.default_rng(_CHECK_SEED)
        coarse = torch.from_numpy(made.random((6, 3, 13, 10), np.float32)).to(self._device)
        faces = torch.nn.functional.interpolate(coarse, (_HEIGHT, _WIDTH), mode="bilinear")
        speech = torch.from_numpy(made.normal(0, 3, (1, 29, 5)).astype(np.float32)).to(self._device)
        with repeatable(), self._casting(dtype):
            painted: Tensor = self._network(faces[:1], faces[1:].reshape(1, 15, _HEIGHT, _WIDTH), speech)
            return painted
