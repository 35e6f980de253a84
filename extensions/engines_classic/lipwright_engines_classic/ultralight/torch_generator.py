"""Runs the generator with PyTorch, in half precision if the result hardly changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lipwright_engines_classic.ultralight.network import load_network, picture_input, rgb_levels
from lipwright_engines_classic.ultralight.options import UltralightOptions
from lipwright_engines_classic.ultralight.weights import SIDE
from models.engines.protocol import ComputeResources
from models.engines.runtime.device_feed import FoldedNetwork
from models.engines.runtime.torch_device import open_device

_NUM_SAMPLES: Final = 4
_GRAIN: Final = 16  # pixels of one colour in a synthetic face
_LOUDNESS: Final = 0.3  # deviation of synthetic features, about that of HuBERT's rows


class TorchGenerator:
    """A checkpoint; see `lipwright_engines_classic.ultralight.generator.OnnxGenerator`.

    Raises:
        WeightsError: It is damaged or not a generator of this family.
        ConfigError: CUDA was requested but is not available.
    """

    def __init__(self, path: Path, resources: ComputeResources, options: UltralightOptions) -> None:
        self._device = open_device(resources)
        network = load_network(path)
        self.variant = network.variant
        self.batch_size = options.batch_for(resources.device)
        self._folded = FoldedNetwork(network, self._device, self.batch_size, options.precision, self._run_samples)
        self.dtype = self._folded.dtype

    def generate(
        self, faces: NDArray[np.uint8], audio: NDArray[np.float32], should_stop: Callable[[], bool] = lambda: False
    ) -> NDArray[np.uint8]:
        """Generate N faces; see `OnnxGenerator.generate`."""
        generated = np.empty_like(faces)
        self._folded.batches.fill(generated, (faces, audio), self._generate_batch, should_stop)
        return generated

    def _generate_batch(self, faces: Tensor, audio: Tensor) -> Tensor:
        return rgb_levels(self._folded.network(picture_input(faces, self.dtype), audio.to(self.dtype)))

    def _run_samples(self, network: nn.Module, dtype: torch.dtype) -> Tensor:
        """Return (4, 3, 160, 160) what a network in `dtype` generates of synthetic faces."""
        rng = np.random.RandomState(0)
        coarse = rng.randint(0, 256, (_NUM_SAMPLES, SIDE // _GRAIN, SIDE // _GRAIN, 3)).astype(np.uint8)
        faces = torch.from_numpy(coarse.repeat(_GRAIN, 1).repeat(_GRAIN, 2)).to(self._device)
        sound = rng.normal(0, _LOUDNESS, (_NUM_SAMPLES, *self.variant.audio_shape)).astype(np.float32)
        generated: Tensor = network(picture_input(faces, dtype), torch.from_numpy(sound).to(self._device, dtype))
        return generated
