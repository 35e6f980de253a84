"""LiveSession: renders the chunks of live sessions. A deployment of its own, so that no job delays them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from ray import serve

from deployments.runtime.model_cache import ModelCache
from deployments.runtime.replica import GRACE_S, StageReplica, free_gpu_memory, make_decoders, stage_method
from lipwright.config import PipelineConfig
from lipwright.jobs.messages import ResolvedAvatar
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.memory_budget import retain_freed_buffers
from lipwright.rendering.live_admission import LiveAdmission, measure_cost
from lipwright.rendering.live_chunk import CHUNK_TIMEOUT_S, LiveChunk, LiveChunkRequest
from lipwright.rendering.live_renderer import LiveRenderer
from lipwright.rendering.segment_renderer import SourceOpener
from lipwright.storage.state import open_files
from lipwright.telemetry import metrics
from models.engines.catalog import EngineCatalog
from models.engines.protocol import EngineClass
from models.engines.registry import ENGINES

T = TypeVar("T")

logger = logging.getLogger(__name__)


@serve.deployment(graceful_shutdown_timeout_s=GRACE_S)
class LiveSession(StageReplica):
    """Holds the networks of live sessions and counts the sessions, but keeps nothing of them.

    A lost chunk is simply requested again, from any replica.
    """

    def __init__(self, config: PipelineConfig, engines: Mapping[str, str | EngineClass] = ENGINES) -> None:
        """Load nothing: a service without live sessions pays nothing for them."""
        self._resources = self._claim_resources(config, niceness=0)
        # On a CPU one chunk is rendered while the decoder works for another. More at once only cost more (`Threads`):
        # with two, four sessions take 10 % more CPU time than with one, and 15 % less time. A GPU waits for many.
        max_at_once = self._resources.num_threads + 1 if self._resources.device == "cpu" else None
        super().__init__("LiveSession", config, max_at_once)
        retain_freed_buffers()
        self._files = open_files(config)
        self._decoders = make_decoders(config, warm=False)
        self._engines = EngineCatalog(config, self._resources.num_threads, engines)
        self._renderers: ModelCache[LiveRenderer] = ModelCache(
            "LiveSession", config.engine_cache, config.live.engine, free_gpu_memory
        )
        self._admission = LiveAdmission(config.live)
        self._measuring = asyncio.Lock()

    @stage_method
    async def load(self) -> bool:
        """Load the networks if they are not loaded yet."""
        async with self._renderers.use(self._config.live.engine, self._load):
            return True

    @stage_method
    async def admit(self, session_id: str, owner: str | None) -> bool:
        """Take a new session; see `LiveAdmission.admit`."""
        self._admission.admit(session_id, owner)
        return True

    @stage_method
    async def prepare(self, session_id: str, shown: ResolvedAvatar) -> bool:
        """Load networks and avatar of an admitted session, and measure what it costs.

        Raises:
            BusyError: That is more than the replica can take.
            LipwrightError: See `LiveRenderer.render`.
        """
        async with self._renderers.use(self._config.live.engine, self._load) as renderer, self._measuring:
            cost = await measure_cost(renderer, session_id, shown, self._config.live)
        logger.info("live session of %s: takes %.2f of this replica's time", shown.avatar.folder, cost)
        self._admission.set_cost(session_id, cost)
        return True

    @stage_method
    async def render(self, request: LiveChunkRequest) -> LiveChunk:
        """Render one chunk; see `LiveRenderer.render`."""
        async with self._renderers.use(self._config.live.engine, self._load) as renderer:
            chunk = await renderer.render(request)
        self._admission.rendered(request.session_id)
        return chunk

    @stage_method
    async def leave(self, session_id: str) -> bool:
        """End a session."""
        self._admission.leave(session_id)
        if (renderer := self._renderers.loaded(self._config.live.engine)) is not None:
            renderer.forget(session_id)
        return True

    async def check_health(self) -> None:
        """Raise while work hangs, and drop idle networks and lost sessions."""
        await super().check_health()
        self._admission.forget_lost()
        metrics.LIVE_SESSIONS.set(self._admission.num_sessions)
        self._renderers.sweep()

    def _load(self) -> LiveRenderer:
        self._decoders.warm()
        num_threads, timeout_s = self._resources.num_threads, CHUNK_TIMEOUT_S
        open_source = SourceOpener(self._config, self._decoders, num_threads, timeout_s)
        engine = self._engines.engine(self._config.live.engine)
        return LiveRenderer(self._config, engine, self._resources, self._run, open_source, self._files)

    async def _run(self, work: Callable[[CancelToken], T], num_frames: int) -> T:
        return await self._threads.run(work, CHUNK_TIMEOUT_S)
