"""Renders the faces of a chunk, on the CPU or on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from lipwright.errors import ConfigError
from models.engines.patches import FacePatches
from models.engines.warp.chunk import FaceChunk, fade_to_source
from models.engines.warp.measures import silent_motion

if TYPE_CHECKING:
    from models.engines.warp.painting.render_torch import TorchRenderer


class WarpFaceGenerator:
    """Warps and renders. Implements `protocol.FaceGenerator`.

    On "cpu" it uses OpenCV and Numba, which are several times faster there than PyTorch; on "cuda" PyTorch.

    Raises:
        ConfigError: CUDA was requested but is not available.
    """

    def __init__(self, device: str = "cpu") -> None:
        if device not in ("cpu", "cuda"):
            raise ConfigError(f"Expected device cpu or cuda, got {device!r}.")
        self._render = _cpu_renderer() if device == "cpu" else _torch_renderer(device).render

    def generate(self, chunk: FaceChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        """Render one patch per face of `chunk`; deterministic.

        `should_stop` is not polled, because a chunk takes a fraction of a second.
        """
        patches = fade_to_source(self._render(chunk), chunk)
        return replace(patches, silent_motion=silent_motion(chunk, patches))


def _cpu_renderer() -> Callable[[FaceChunk], FacePatches]:
    # Imported here because importing it loads compiled code, or compiles it on the first start of a checkout.
    from models.engines.warp.painting.render_cpu import render_on_cpu

    return render_on_cpu


def _torch_renderer(device: str) -> TorchRenderer:
    # Imported here because importing PyTorch takes two seconds, which replicas without a GPU should not pay.
    import torch

    from models.engines.warp.painting.render_torch import TorchRenderer

    if not torch.cuda.is_available():
        raise ConfigError(f"Device {device!r} was requested, but PyTorch finds no usable CUDA device.")
    return TorchRenderer(torch.device(device))
