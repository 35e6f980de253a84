"""Runs the generator with PyTorch, in half precision if the result hardly changes.

Precisions are compared on synthetic faces and speech, which are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.engines.protocol import ComputeResources
from models.engines.runtime.batching import usual_batch
from models.engines.runtime.device_feed import FoldedNetwork
from models.engines.runtime.torch_device import open_device
from models.engines.wav2lip.network import face_input, face_levels, load_network
from models.engines.wav2lip.options import Wav2LipOptions
from models.engines.wav2lip.weights import MEL_BANDS, WINDOW_COLUMNS

_NUM_SAMPLES = 4
# BGR colours; the proportions of a face box are those of `models.engines.wav2lip.engine`.
_SKINS = ((150, 180, 225), (90, 120, 170), (50, 70, 110), (190, 200, 235))
_WALL, _EYE, _LIP = (120, 110, 100), (40, 35, 35), (90, 80, 170)
_EYES_Y, _MOUTH_Y = 0.31, 0.70


def sample_faces(num: int, size: int) -> NDArray[np.uint8]:
    """Draw faces.

    Returns:
        (num, size, size, 3) uint8 BGR: an oval with eyes and a mouth, light from one side, grain.
    """
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    faces = np.empty((num, size, size, 3), np.uint8)
    for i in range(num):
        picture = np.empty((size, size, 3))
        picture[:] = _WALL
        picture[_ellipse(x, y, 0.5, 0.5, 0.46, 0.54)] = _SKINS[i % len(_SKINS)]
        for eye in (0.32, 0.68):
            picture[_ellipse(x, y, eye, _EYES_Y, 0.07, 0.03)] = _EYE
        picture[_ellipse(x, y, 0.5, _MOUTH_Y, 0.16, 0.02 + 0.015 * i)] = _LIP
        light = 0.85 + 0.3 * (x if i % 2 else 1 - x)
        grain = np.random.RandomState(i).randint(-4, 5, (size, size, 1))
        faces[i] = (picture * light[..., None] + grain).clip(0, 255)
    return faces


def sample_windows(num: int) -> NDArray[np.float32]:
    """Return (num, 80, 16) float32 mel windows: voiced sound of different pitch between silence and a hiss."""
    band = np.arange(MEL_BANDS)[:, None]
    column = np.arange(WINDOW_COLUMNS)[None]
    windows = np.empty((num, MEL_BANDS, WINDOW_COLUMNS), np.float32)
    for i in range(num):
        harmonics = np.cos(band * (0.7 + 0.2 * (i % 4))) - band / 30
        loudness = np.sin((column + 3 * i) / 5) ** 2
        windows[i] = (-4 + loudness * (3.5 + harmonics)).clip(-4, 4)
    return windows


def _ellipse(
    x: NDArray[np.float64], y: NDArray[np.float64], middle_x: float, middle_y: float, half_x: float, half_y: float
) -> NDArray[np.bool_]:
    return np.asarray(((x - middle_x) / half_x) ** 2 + ((y - middle_y) / half_y) ** 2 < 1)


class TorchGenerator:
    """A published checkpoint; see `models.engines.wav2lip.generator.OnnxGenerator`.

    Raises:
        WeightsError: It is damaged or not a Wav2Lip generator.
        ConfigError: CUDA was requested but is not available.
    """

    def __init__(self, path: Path, resources: ComputeResources, options: Wav2LipOptions) -> None:
        self._device = open_device(resources)
        network = load_network(path)
        self.size: int = network.size
        self.batch_size = options.batch_size or usual_batch(resources.device)
        self._folded = FoldedNetwork(network, self._device, self.batch_size, options.precision, self._run_samples)
        self.dtype = self._folded.dtype

    def generate(
        self, faces: NDArray[np.uint8], windows: NDArray[np.float32], should_stop: Callable[[], bool] = lambda: False
    ) -> NDArray[np.uint8]:
        """Generate N faces; see `OnnxGenerator.generate`."""
        generated = np.empty_like(faces)
        self._folded.batches.fill(generated, (faces, windows), self._generate_batch, should_stop)
        return generated

    def _generate_batch(self, faces: Tensor, windows: Tensor) -> Tensor:
        return face_levels(self._folded.network(windows[:, None].to(self.dtype), face_input(faces, self.dtype)))

    def _run_samples(self, network: nn.Module, dtype: torch.dtype) -> Tensor:
        """Return (4, 3, S, S) what a network in `dtype` generates of synthetic faces."""
        faces = torch.from_numpy(sample_faces(_NUM_SAMPLES, self.size)).to(self._device)
        windows = torch.from_numpy(sample_windows(_NUM_SAMPLES)).to(self._device)
        generated: Tensor = network(windows[:, None].to(dtype), face_input(faces, dtype))
        return generated
