"""What live sessions ask of the Director and of LiveSession, behind their handles: every wait bounded."""

from __future__ import annotations

from typing import Any, Final

from ray.serve.handle import DeploymentHandle

from config import PipelineConfig
from deployments.runtime.calls import CallBounds, Sent, call_stage
from deployments.runtime.director_client import DirectorClient
from jobs.messages import PresenterRef
from rendering.moment import Moment, MomentRequest
from telemetry.log_context import Work

_MAX_ATTEMPTS: Final = 3
_MAX_WAIT_S: Final = 30.0  # as long as a new replica takes to start, where there is only one


class LiveClient:
    """Implements `rendering.moment.LiveService`. A moment whose replica died is rendered by another one."""

    def __init__(self, director: DirectorClient, live_session: DeploymentHandle[Any], config: PipelineConfig) -> None:
        self._director, self._live_session = director, live_session
        self._engine = config.live.engine
        # A replica that was just started loads its networks first.
        work_s = config.live.moment_timeout_s + config.memory.load_timeout_s
        self._bounds = CallBounds(work_s, _MAX_ATTEMPTS, _MAX_WAIT_S)

    async def prepare(self, session_id: str, avatar_id: str, owner: str | None) -> PresenterRef:
        """See `LiveService`."""
        presenter = await self._director.present(avatar_id, owner, self._engine)

        def start(work: Work) -> Sent:
            return self._live_session.prepare.remote(work)

        await call_stage("LiveSession.prepare", Work(session_id), start, self._bounds)
        return presenter

    async def render(self, request: MomentRequest) -> Moment:
        """See `LiveSession.render`."""

        def start(work: Work) -> Sent:
            return self._live_session.render.remote(work, request)

        moment: Moment = await call_stage("LiveSession.render", Work(request.session_id), start, self._bounds)
        return moment
