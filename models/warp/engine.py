"""The warp engine: control points in, finished regions out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from errors import ConfigError
from models.engine import EngineSpec
from models.face_chunk import FaceChunk, FacePatches
from models.warp.cpu import render_on_cpu

if TYPE_CHECKING:
    from models.warp.torch_path import TorchRenderer


class WarpEngine:
    """Warps the presenter's own mouths to the target landmarks. No weights.

    On the CPU it uses OpenCV, which is several times faster there than PyTorch; on a GPU PyTorch.

    Args:
        device: "cpu", "cuda" or "cuda:N".
        num_threads: CPU threads; more than one has no use here, the frames of a chunk are rendered one by one.

    Raises:
        ConfigError: A CUDA device was asked for and there is none.
    """

    spec = EngineSpec(name="warp", drive="landmarks", crop="region", colour="yuv420")

    def __init__(self, device: str = "cpu", num_threads: int = 1) -> None:
        self.device = device
        self.num_threads = num_threads
        if device.split(":")[0] not in ("cpu", "cuda"):
            raise ConfigError(f"Expected device cpu, cuda or cuda:N, got {device!r}.")
        self._renderer = None if device == "cpu" else _torch_renderer(device)

    def synthesize(self, chunk: FaceChunk) -> FacePatches:
        """Returns one patch for every face of `chunk`; the same chunk gives the same bytes."""
        patches = render_on_cpu(chunk) if self._renderer is None else self._renderer.render(chunk)
        return patches.fade(chunk)


def _torch_renderer(device: str) -> TorchRenderer:
    # Imported here: PyTorch takes two seconds, and every replica of a machine without a GPU would pay them.
    import torch

    from models.warp.torch_path import TorchRenderer

    if not torch.cuda.is_available():
        raise ConfigError(f"Expected a CUDA device for {device!r}, found none that PyTorch can use.")
    return TorchRenderer(torch.device(device))
