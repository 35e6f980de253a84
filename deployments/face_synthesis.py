"""FaceSynthesis: face crops -> generated faces, on a GPU if there is one."""

from __future__ import annotations

from collections.abc import Mapping

from ray import serve

from deployments.runtime.local_first_router import LOCAL_FIRST
from deployments.runtime.model_cache import ModelCache
from deployments.runtime.replica import GRACE_S, StageReplica, free_gpu_memory, stage_method
from lipwright.config import PipelineConfig
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.memory_budget import retain_freed_buffers
from models.engines.catalog import EngineCatalog
from models.engines.patches import FacePatches
from models.engines.protocol import Chunk, EngineClass, FaceGenerator
from models.engines.registry import ENGINES


@serve.deployment(
    graceful_shutdown_timeout_s=GRACE_S,
    request_router_config=LOCAL_FIRST,
)
class FaceSynthesis(StageReplica):
    """Holds the face generators of engines and no state: any replica returns the same patches for a chunk."""

    def __init__(self, config: PipelineConfig, engines: Mapping[str, str | EngineClass] = ENGINES) -> None:
        """Load the default engine's face generator; others are loaded on first use."""
        retain_freed_buffers()
        self._resources = self._claim_resources(config)
        # A GPU computes one chunk while the next one is copied to it.
        max_at_once = self._resources.num_threads if self._resources.device == "cpu" else None
        super().__init__("FaceSynthesis", config, max_at_once)
        self._engines = EngineCatalog(config, self._resources.num_threads, engines)
        default = self._engines.revision(config.engine)
        self._face_generators: ModelCache[FaceGenerator] = ModelCache(
            "FaceSynthesis", config.engine_cache, default, free_gpu_memory
        )
        self._face_generators.put(default, self._engines.engine(config.engine).face_generator(self._resources))

    @stage_method
    async def synthesize(self, engine: str, chunk: Chunk) -> FacePatches:
        """Return one finished patch for each face crop of `chunk`.

        Raises:
            OptionError: There is no engine of that name.
            WeightsError: Its weights are missing or wrong.
            StageTimeoutError: The engine timed out.
        """
        revision = self._engines.revision(engine)
        async with self._face_generators.use(
            revision, lambda: self._engines.engine(engine).face_generator(self._resources)
        ) as face_generator:

            def work(token: CancelToken) -> FacePatches:
                return face_generator.generate(chunk, token.is_cancelled)

            return await self._run(work, chunk.num_frames)

    async def check_health(self) -> None:
        """Raise while work hangs, and drop idle networks."""
        await super().check_health()
        self._face_generators.sweep()
