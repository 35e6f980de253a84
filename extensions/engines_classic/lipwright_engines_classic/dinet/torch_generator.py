"""The original DINet in PyTorch: loading, and inference in half precision if the result hardly changes."""

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

from lipwright_engines_classic.dinet.crop import CropLayout
from lipwright_engines_classic.dinet.network import DINet, Reference
from models.engines.protocol import ComputeResources
from models.engines.runtime.checkpoints import load_parameters, read_checkpoint
from models.engines.runtime.device_feed import DeviceBatches
from models.engines.runtime.torch_device import Precision, choose_precision, fold_batch_norm, open_device, repeatable


def load_dinet(path: Path) -> DINet:
    """Load ["state_dict"]["net_g"] of a .pth file, on the CPU, in evaluation mode; either wrapper may be missing.

    Raises:
        WeightsError: The file is missing, cannot be read without running code, or is not DINet.
    """
    with torch.device("meta"):
        network = DINet()
    return load_parameters(network, read_checkpoint(path), "DINet", path.name).requires_grad_(False)


# The error of half precision is measured on a quarter of the published crop: same layers, seconds faster to load.
_SAMPLE_SIZE: Final = (208, 160)
_SAMPLE_SEED: Final = 7


class DinetGenerator:
    """The loaded network, run in batches that are filled up, so a frame's bytes do not depend on its neighbours.

    Args:
        path: The checkpoint.
        resources: Where it runs.
        layout: Size of the crop, and where the masked one is black.
        batch_size: Frames at a time.
        precision: "auto" computes in half precision if the user's own weights then give nearly the same picture.

    Raises:
        WeightsError: The file is missing or is not DINet.
        ConfigError: CUDA was requested but is not available.
    """

    def __init__(
        self,
        path: Path,
        resources: ComputeResources,
        layout: CropLayout,
        batch_size: int = 1,
        precision: Precision = "auto",
    ) -> None:
        self._device, self._layout = open_device(resources), layout
        network = load_dinet(path)
        fold_batch_norm(network)
        self._network = network.to(device=self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._batches = DeviceBatches(self._device, batch_size)
        self.dtype = torch.float32
        """Precision of the computation."""
        self.dtype = choose_precision(self._run_sample, precision, self._device)
        self._known: tuple[bytes, Reference] | None = None

    def generate(
        self,
        crops: NDArray[np.uint8],
        references: NDArray[np.uint8],
        speech: NDArray[np.float32],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> NDArray[np.uint8]:
        """Generate N crops.

        Args:
            crops: (N, 416, 320, 3) uint8 RGB, unmasked.
            references: (5, 416, 320, 3) uint8 RGB, the avatar's.
            speech: (N, 29, 5) float32 DeepSpeech windows.
            should_stop: See `protocol.FaceGenerator.generate`.

        Returns:
            (N, 416, 320, 3) uint8 RGB.
        """
        generated, avatar = np.empty_like(crops), references.tobytes()
        with repeatable(), self._autocast(self.dtype):
            known = self._know(avatar, references)
            generate = partial(self._generate_batch, known)
            self._batches.fill(generated, (crops, speech), generate, should_stop, together=avatar)
        return generated

    def _know(self, avatar: bytes, references: NDArray[np.uint8]) -> Reference:
        """Encode an avatar's references; cache the last avatar's."""
        known = self._known
        if known is None or known[0] != avatar:
            pictures = _planes(torch.from_numpy(references).to(self._device))
            known = self._known = avatar, self._network.know(_stack(pictures))
        return known[1]

    def _generate_batch(self, known: Reference, crops: Tensor, speech: Tensor) -> Tensor:
        source = _planes(crops)
        source[self._layout.masked] = 0
        generated: Tensor = self._network.speak(source, known, speech).float()
        levels = (generated * 255).round_().clamp_(0, 255).to(torch.uint8)
        return levels.permute(0, 2, 3, 1).contiguous()

    def _autocast(self, dtype: torch.dtype) -> torch.autocast:
        return torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32)

    def _run_sample(self, dtype: torch.dtype) -> Tensor:
        """Run a synthetic face and speech in the given precision."""
        made = np.random.default_rng(_SAMPLE_SEED)
        coarse = torch.from_numpy(made.random((6, 3, 13, 10), np.float32)).to(self._device)
        faces = F.interpolate(coarse, _SAMPLE_SIZE, mode="bilinear")
        speech = torch.from_numpy(made.normal(0, 3, (1, 29, 5)).astype(np.float32)).to(self._device)
        with repeatable(), self._autocast(dtype):
            generated: Tensor = self._network(faces[:1], _stack(faces[1:]), speech)
        return generated


def _planes(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) float32 in [0, 1] of (N, H, W, 3) uint8, channels last in memory."""
    return (pictures.float() / 255).permute(0, 3, 1, 2)


def _stack(pictures: Tensor) -> Tensor:
    """(1, 15, H, W) of (5, 3, H, W), channels last in memory."""
    return pictures.reshape(1, -1, *pictures.shape[2:]).contiguous(memory_format=torch.channels_last)
