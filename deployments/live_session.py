"""LiveSession: renders the chunks of live sessions. A deployment of its own, so that no job delays them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from ray import serve

from config import PipelineConfig
from deployments.runtime.model_cache import ModelCache
from deployments.runtime.replica import StageReplica, claim_threads, make_decoders, stage_method
from media.cancel_token import CancelToken
from media.decoding.malloc_tuning import retain_freed_buffers
from models.engines.catalog import EngineCatalog
from models.engines.protocol import EngineClass, Machine
from models.engines.registry import ENGINES
from rendering.live_chunk import LiveChunk, LiveChunkRequest
from rendering.live_renderer import LiveRenderer
from rendering.segment_renderer import SourceOpener
from storage.state import open_files

T = TypeVar("T")


@serve.deployment
class LiveSession(StageReplica):
    """Holds the networks of live sessions but no session: a lost chunk is simply requested again."""

    def __init__(self, config: PipelineConfig, engines: Mapping[str, str | EngineClass] = ENGINES) -> None:
        """Load nothing: a service without live sessions pays nothing for them."""
        super().__init__("LiveSession", config)
        retain_freed_buffers()
        self._files = open_files(config)
        self._num_threads = claim_threads(niceness=0)
        self._decoders = make_decoders(config, warm=False)
        self._engines = EngineCatalog(config, self._num_threads, engines)
        self._renderers: ModelCache[LiveRenderer] = ModelCache("LiveSession", config.engine_cache, config.live.engine)

    @stage_method
    async def prepare(self) -> bool:
        """Load the networks if they are not loaded yet; called at the start of a session."""
        async with self._renderers.use(self._config.live.engine, self._load):
            return True

    @stage_method
    async def render(self, request: LiveChunkRequest) -> LiveChunk:
        """Render one chunk; see `LiveRenderer.render`."""
        async with self._renderers.use(self._config.live.engine, self._load) as renderer:
            return await renderer.render(request)

    async def check_health(self) -> None:
        """Raise while work hangs, and drop idle networks."""
        await super().check_health()
        self._renderers.sweep()

    def _load(self) -> LiveRenderer:
        self._decoders.warm()
        open_source = SourceOpener(self._config, self._decoders, self._num_threads, self._config.live.chunk_timeout_s)
        engine = self._engines.engine(self._config.live.engine)
        return LiveRenderer(
            self._config, engine, Machine("cpu", self._num_threads), self._run, open_source, self._files
        )

    async def _run(self, work: Callable[[CancelToken], T], num_frames: int) -> T:
        return await self._threads.run(work, self._config.live.chunk_timeout_s)
