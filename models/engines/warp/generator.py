"""Renders the faces of a chunk, on the CPU or on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from errors import ConfigError
from models.engines.patches import FacePatches
from models.engines.warp.chunk import FaceChunk, faded
from models.engines.warp.measures import silent_motion
from models.engines.warp.painting.render_numpy import render_numpy

if TYPE_CHECKING:
    from models.engines.warp.painting.render_torch import TorchRenderer


class WarpFaceGenerator:
    """Warps and renders. Implements `protocol.FaceGenerator`.

    On "cpu" it uses OpenCV, which is several times faster there than PyTorch; on "cuda" PyTorch.

    Raises:
        ConfigError: CUDA was requested but is not available.
    """

    def __init__(self, device: str = "cpu") -> None:
        if device not in ("cpu", "cuda"):
            raise ConfigError(f"Expected device cpu or cuda, got {device!r}.")
        self._renderer = None if device == "cpu" else _torch_renderer(device)

    def generate(self, chunk: FaceChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        """Renders one patch per face of `chunk`; deterministic.

        `should_stop` is not polled, because a chunk takes a fraction of a second.
        """
        patches = render_numpy(chunk) if self._renderer is None else self._renderer.render(chunk)
        patches = faded(patches, chunk)
        return replace(patches, silent_motion=silent_motion(chunk, patches))


def _torch_renderer(device: str) -> TorchRenderer:
    # Imported here because importing PyTorch takes two seconds, which replicas without a GPU should not pay.
    import torch

    from models.engines.warp.painting.render_torch import TorchRenderer

    if not torch.cuda.is_available():
        raise ConfigError(f"Device {device!r} was requested, but PyTorch finds no usable CUDA device.")
    return TorchRenderer(torch.device(device))
