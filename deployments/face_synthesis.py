"""FaceSynthesis: face crops and target landmarks -> faces, on the GPU where there is one."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from ray import serve

from config import PipelineConfig
from deployments.replica import Room, Threads, assigned_device, claim_threads, stage_call
from media.frame_memory import keep_freed_buffers
from media.stop import Stop
from models.engine import ENGINES, Engine, EngineMaker, make_engine
from models.face_chunk import FaceChunk, FacePatches


@serve.deployment
class FaceSynthesis:
    """Holds the engines and no state: (chunk) in, the same patches out on any replica."""

    def __init__(self, config: PipelineConfig, engines: Mapping[str, EngineMaker] = ENGINES) -> None:
        """Load the default engine; others of `engines` are loaded when a job first names them."""
        keep_freed_buffers()
        self._jobs = config.jobs
        self._num_threads, self._device = claim_threads(), assigned_device()
        self._room = Room()
        # A GPU computes one chunk while the next is carried to it.
        max_at_once = self._num_threads if self._device == "cpu" else None
        self._threads = Threads("FaceSynthesis", max_at_once=max_at_once)
        self._makers = engines
        self._engines: dict[str, Engine] = {}
        self._loading = threading.Lock()
        self._engine(config.engine)

    @stage_call
    async def synthesize(self, engine: str, chunk: FaceChunk) -> FacePatches:
        """Return one finished patch for each face crop of `chunk`.

        Raises:
            OptionError: There is no engine of that name.
            StageTimeoutError: The engine did not come back in time.
        """

        def work(stop: Stop) -> FacePatches:
            return self._engine(engine).synthesize(chunk)

        return await self._threads.run(work, self._jobs.call_timeout_s(chunk.num_frames))

    async def ready(self) -> bool:
        """True once the default engine is loaded."""
        return True

    async def check_health(self) -> None:
        """Fail while an engine hangs; Serve then replaces the replica."""
        self._threads.check()

    def _engine(self, name: str) -> Engine:
        with self._loading:
            if name not in self._engines:
                self._engines[name] = make_engine(
                    name, device=self._device, num_threads=self._num_threads, engines=self._makers
                )
            return self._engines[name]
