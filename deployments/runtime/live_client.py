"""The calls of live sessions to the Director and to LiveSession, with timeouts."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any, Final, NoReturn, cast

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.runtime.calls import CallBounds, Sent, call_stage
from deployments.runtime.director_client import DirectorClient
from deployments.runtime.node_drain import NodeDrain
from lipwright.config import PipelineConfig
from lipwright.errors import BusyError, LipwrightError
from lipwright.jobs.messages import ResolvedAvatar
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.jobs.model.usage import LiveUsage
from lipwright.rendering.live_chunk import CHUNK_TIMEOUT_S, LiveChunk, LiveChunkRequest
from lipwright.telemetry.log_context import CallContext

_MAX_ATTEMPTS: Final = 3
_MAX_WAIT_S: Final = 30.0  # a single replica restarts in this time
_WARM_EVERY_S: Final = 10.0
_MAX_ROUTES: Final = 8  # tried until one leads to a replica with a free slot
_RECONNECT_S: Final = 0.2  # to another replica of the API
_BRIEF_S: Final = 10.0  # of calls that compute nothing


class LiveClient:
    """Implements `lipwright.rendering.live_chunk.LiveService`. Another replica renders a chunk whose replica died."""

    def __init__(
        self, director: DirectorClient, live_session: DeploymentHandle[Any], config: PipelineConfig, drain: NodeDrain
    ) -> None:
        self._director, self._live_session, self._drain = director, live_session, drain
        self._engine = config.live.engine
        # A new replica loads its networks first.
        work_s = CHUNK_TIMEOUT_S + config.engine_cache.load_timeout_s
        self._bounds = CallBounds(work_s, _MAX_ATTEMPTS, _MAX_WAIT_S)
        self._brief = CallBounds(_BRIEF_S, _MAX_ATTEMPTS, _MAX_WAIT_S)
        self._routes: dict[str, str] = {}  # what Serve routes a session by
        self._warmed_at = -_WARM_EVERY_S
        self._warming: asyncio.Task[None] | None = None

    async def admit(self, session_id: str, owner: str | None) -> None:
        """See `LiveService`. Routes lead to replicas by their hash, so several are tried."""
        if await self._drain.has_successor():
            raise _moved()
        usage = LiveUsage(session_id=session_id, owner=owner)
        await self._director.report_live(usage)
        try:
            await self._take_slot(session_id, owner)
        except BaseException:  # a cancelled request, too
            self._routes.pop(session_id, None)
            await self._free_slot(session_id)
            with suppress(LipwrightError):
                await self._director.report_live(usage.model_copy(update={"is_over": True}))
            raise

    async def _take_slot(self, session_id: str, owner: str | None) -> None:
        for number in range(_MAX_ROUTES):
            self._routes[session_id] = f"{session_id}-{number}"
            try:
                await self._call("admit", session_id, self._brief, session_id, owner)
                return
            except BusyError:
                if number == _MAX_ROUTES - 1:
                    raise

    async def _free_slot(self, session_id: str) -> None:
        """End a session in every replica: one may have admitted it, or admit it later, without an answer."""
        response = self._live_session.broadcast("leave", CallContext(session_id), session_id)
        with suppress(RayError, RayServeException, TimeoutError):  # a replica that died has no slots
            await response.results_async(timeout_s=_BRIEF_S, return_exceptions=True)

    async def prepare(
        self, session_id: str, avatar_id: str, owner: str | None, settings: AvatarSettings
    ) -> ResolvedAvatar:
        shown = await self._director.present(avatar_id, owner, self._engine, settings)
        await self._call("prepare", session_id, self._bounds, session_id, shown)
        self._warm_spares(session_id)
        return shown

    async def report(self, usage: LiveUsage) -> None:
        await self._director.report_live(usage)

    async def leave(self, usage: LiveUsage) -> None:
        session_id = usage.session_id
        with suppress(LipwrightError):  # what it used since the last report is not recorded
            await self._director.report_live(usage)
        with suppress(LipwrightError):  # the replica died, or forgets the session later
            await self._call("leave", session_id, self._brief, session_id)
        self._routes.pop(session_id, None)

    async def until_moved(self) -> NoReturn:
        await self._drain.until_successor()
        raise _moved()

    async def pin(self, avatar_id: str, owner: str | None) -> None:
        await self._director.pin(avatar_id, owner)

    async def render(self, request: LiveChunkRequest) -> LiveChunk:
        if time.monotonic() - self._warmed_at > _WARM_EVERY_S:
            self._warm_spares(request.session_id)
        return cast(LiveChunk, await self._call("render", request.session_id, self._bounds, request))

    async def _call(self, method: str, session_id: str, bounds: CallBounds, *args: object) -> object:
        """Call a method of LiveSession in the replica with the avatar and the decoder of a session."""

        def send(context: CallContext) -> Sent[object]:
            handle: Any = self._live_session.options(session_id=self._routes.get(session_id, session_id))
            return cast(Sent[object], getattr(handle, method).remote(context, *args))

        return await call_stage(f"LiveSession.{method}", CallContext(session_id), send, bounds)

    def _warm_spares(self, session_id: str) -> None:
        """Have every replica load its networks, so that it can take over a session at once."""
        self._warmed_at = time.monotonic()
        if self._warming is not None and not self._warming.done():
            return

        async def warm() -> None:
            response = self._live_session.broadcast("load", CallContext(session_id))
            with suppress(RayError, RayServeException, TimeoutError):  # the sessions' own calls report errors
                await response.results_async(timeout_s=self._bounds.work_s, return_exceptions=True)

        self._warming = asyncio.create_task(warm())


def _moved() -> BusyError:
    return BusyError("This node is being drained. Reconnect to start a session on another node.", _RECONNECT_S)
