"""FaceSynthesis: face crops and target landmarks -> faces, on the GPU where there is one."""

from __future__ import annotations

import asyncio

from ray import serve

from config import PipelineConfig
from deployments.replica import assigned_device, claim_threads
from media.frame_memory import keep_freed_buffers
from models.engine import make_engine
from models.face_chunk import FaceChunk, FacePatches


@serve.deployment
class FaceSynthesis:
    """Holds the engines and no state: (chunk) in, the same patches out on any replica."""

    def __init__(self, config: PipelineConfig) -> None:
        """Load the default engine; others are loaded when a job first names them."""
        keep_freed_buffers()
        self._num_threads, self._device = claim_threads(), assigned_device()
        self._engines = {config.engine: make_engine(config.engine, device=self._device, num_threads=self._num_threads)}

    async def synthesize(self, engine: str, chunk: FaceChunk) -> FacePatches:
        """Return one finished patch for each face crop of `chunk`.

        Raises:
            OptionError: There is no engine of that name.
        """
        if engine not in self._engines:
            self._engines[engine] = make_engine(engine, device=self._device, num_threads=self._num_threads)
        return await asyncio.to_thread(self._engines[engine].synthesize, chunk)

    async def ready(self) -> bool:
        """True once the default engine is loaded."""
        return True
