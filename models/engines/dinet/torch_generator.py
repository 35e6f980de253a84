"""The original DINet in PyTorch: loading, folding and batched inference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from errors import WeightsError
from models.engines.dinet.crop import CropLayout
from models.engines.dinet.network import DINet, Reference, ResBlock1d, ResBlock2d, SameBlock1d, SameBlock2d
from models.engines.dinet.weights import DINET_TENSORS
from models.engines.protocol import Machine
from models.engines.runtime.checkpoints import read_checkpoint
from models.engines.runtime.device_feed import DeviceBatches
from models.engines.runtime.torch_device import Precision, choose_precision, open_device, repeatable

_COUNTER: Final = "num_batches_tracked"  # not used in inference, and missing in some files


def load_dinet(path: Path) -> DINet:
    """Load a generator.

    Args:
        path: The .pth file: ["state_dict"]["net_g"], either wrapper may be missing.

    Returns:
        The network on the CPU, in evaluation mode.

    Raises:
        WeightsError: The file is missing, cannot be read without running code, or is not DINet.
    """
    found = read_checkpoint(path)
    network = DINet()
    expected = {name: value for name, value in network.state_dict().items() if not name.endswith(_COUNTER)}
    # The distinctive ones first, so that the message is about the architecture.
    for name in (*DINET_TENSORS, *expected):
        shape = tuple(found[name].shape) if name in found else None
        if shape != tuple(expected[name].shape):
            said = list(shape) if shape is not None else "none"
            raise WeightsError(f"{path.name}: expected DINet with {name} {list(expected[name].shape)}, found {said}.")
    tensors = {name: value.float() for name, value in found.items() if not name.endswith(_COUNTER)}
    if unknown := sorted(set(tensors) - set(expected)):
        raise WeightsError(f"{path.name}: expected DINet alone, found {len(unknown)} more tensors, as {unknown[0]}.")
    network.load_state_dict(tensors, strict=False)
    return network.eval().requires_grad_(False)


# Folds DINet's normalisations into its convolutions: the same values in fewer passes over memory.


def fold_norms(network: DINet) -> int:
    """Fold, in place, every normalisation that follows a convolution.

    The first one of each residual block precedes its convolution and a ReLU, so it stays.

    Args:
        network: In evaluation mode.

    Returns:
        How many were folded.
    """
    if network.training:
        raise ValueError("Expected a network in evaluation mode: in training its statistics are those of the batch.")
    num_folded = 0
    for block in list(network.modules()):
        if isinstance(block, SameBlock1d | SameBlock2d):
            num_folded += _fold(block, "conv", "norm")
        elif isinstance(block, ResBlock1d | ResBlock2d):
            num_folded += _fold(block, "conv1", "norm2")
    return num_folded


def _fold(block: nn.Module, convolution: str, norm: str) -> int:
    folded = fuse_conv_bn_eval(getattr(block, convolution), getattr(block, norm))
    setattr(block, convolution, folded)
    setattr(block, norm, nn.Identity())
    return 1


# Runs the original DINet in batches of one size, and in half precision where the difference is invisible.

# The error of half precision is measured on a quarter of the published crop: same layers, seconds faster to load.
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
        ConfigError: CUDA was requested but is not available.
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
            crops: (N, 416, 320, 3) uint8 RGB, as they are.
            references: (5, 416, 320, 3) uint8 RGB, the avatar's.
            speech: (N, 29, 5) float32 DeepSpeech windows.
            should_stop: See `protocol.FaceGenerator.generate`.

        Returns:
            (N, 416, 320, 3) uint8 RGB.
        """
        generated, avatar = np.empty_like(crops), references.tobytes()
        with repeatable(), self._casting(self.dtype):
            known = self._know(avatar, references)
            generate = partial(self._generate_batch, known)
            self._batches.fill(generated, (crops, speech), generate, should_stop, together=avatar)
        return generated

    def _know(self, avatar: bytes, references: NDArray[np.uint8]) -> Reference:
        """Encodes an avatar's references; caches the last avatar's."""
        known = self._known
        if known is None or known[0] != avatar:
            pictures = _planes(torch.from_numpy(references).to(self._device))
            known = self._known = avatar, self._network.know(_stacked(pictures))
        return known[1]

    def _generate_batch(self, known: Reference, crops: Tensor, speech: Tensor) -> Tensor:
        source = _planes(crops)
        source[self._layout.masked] = 0
        generated: Tensor = self._network.speak(source, known, speech).float()
        levels = (generated * 255).round_().clamp_(0, 255).to(torch.uint8)
        return levels.permute(0, 2, 3, 1).contiguous()

    def _casting(self, dtype: torch.dtype) -> torch.autocast:
        return torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32)

    def _run_sample(self, dtype: torch.dtype) -> Tensor:
        """Runs a synthetic face and speech in the given precision."""
        made = np.random.default_rng(_SAMPLE_SEED)
        coarse = torch.from_numpy(made.random((6, 3, 13, 10), np.float32)).to(self._device)
        faces = F.interpolate(coarse, _SAMPLE_SIZE, mode="bilinear")
        speech = torch.from_numpy(made.normal(0, 3, (1, 29, 5)).astype(np.float32)).to(self._device)
        with repeatable(), self._casting(dtype):
            generated: Tensor = self._network(faces[:1], _stacked(faces[1:]), speech)
        return generated


def _planes(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) float32 in [0, 1] of (N, H, W, 3) uint8, channels last in memory."""
    return (pictures.float() / 255).permute(0, 3, 1, 2)


def _stacked(pictures: Tensor) -> Tensor:
    """(1, 15, H, W) of (5, 3, H, W), channels last in memory."""
    return pictures.reshape(1, -1, *pictures.shape[2:]).contiguous(memory_format=torch.channels_last)
