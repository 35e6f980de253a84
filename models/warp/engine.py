"""The warp engine: control points in, finished regions out."""

from __future__ import annotations

from models.engine import EngineSpec
from models.face_chunk import FaceChunk, FacePatches
from models.warp.cpu import render_on_cpu


class WarpEngine:
    """Warps the presenter's own mouths to the target landmarks. No weights.

    Args:
        device: "cpu", "cuda" or "cuda:N".
        num_threads: CPU threads.

    Raises:
        ConfigError: A CUDA device was asked for and there is none.
    """

    spec = EngineSpec(name="warp", drive="landmarks", crop="region", colour="yuv420")

    def __init__(self, device: str = "cpu", num_threads: int = 1) -> None:
        self.device = device
        self._num_threads = num_threads

    def synthesize(self, chunk: FaceChunk) -> FacePatches:
        """Returns one patch for every face of `chunk`; the same chunk gives the same bytes."""
        return render_on_cpu(chunk)
