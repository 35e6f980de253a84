"""The Director's handle as the `JobService` that the API uses: with timeouts, and with our own errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from ray.serve.handle import DeploymentHandle

from deployments.runtime.calls import CallOutcome, classify, to_lipwright_error, unwrap
from deployments.runtime.node_drain import NodeDrain
from lipwright.errors import LipwrightError, UnavailableError
from lipwright.jobs.messages import ResolvedAvatar
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.jobs.model.record import JobRecord
from lipwright.jobs.model.usage import LiveUsage
from lipwright.jobs.ports import JobService
from lipwright.telemetry.log_context import context_or_empty

P = ParamSpec("P")
T = TypeVar("T")

_QUICK_S = 30.0  # a query of the table, with time for a Director that is just starting
_PROBE_S = 900.0  # MediaProbe opens both files first
_MAX_ATTEMPTS = 4
_RETRY_WAIT_S = 0.3


def _forward(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], timeout_s: float = _QUICK_S
) -> Callable[Concatenate[DirectorClient, P], Coroutine[Any, Any, T]]:
    """Return the same method of the client, which calls the Director."""

    async def call(self: DirectorClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return cast(T, await self._call(method.__name__, *args, timeout_s=timeout_s, **kwargs))

    return update_wrapper(call, method)


class DirectorClient:
    """Implements `lipwright.jobs.ports.JobService` over `director`, and passes on what live sessions need.

    A lost call, usually because the Director died, is retried: all calls are idempotent. Reservations (`admit`) do not
    survive a restart of the Director.
    """

    def __init__(self, director: DeploymentHandle[Any], drain: NodeDrain) -> None:
        self._director, self._drain = director, drain

    admit = _forward(JobService.admit)
    grow_reservation = _forward(JobService.grow_reservation)
    extend = _forward(JobService.extend)
    release = _forward(JobService.release)
    submit = _forward(JobService.submit, _PROBE_S)
    get_job = _forward(JobService.get_job)
    find_job = _forward(JobService.find_job)
    release_idempotency_key = _forward(JobService.release_idempotency_key)
    list_jobs = _forward(JobService.list_jobs)
    cancel_job = _forward(JobService.cancel_job)
    retry_job = _forward(JobService.retry_job, _PROBE_S)
    revise_job = _forward(JobService.revise_job, _PROBE_S)
    edit_turns = _forward(JobService.edit_turns, _PROBE_S)
    approve_job = _forward(JobService.approve_job)
    delete_job = _forward(JobService.delete_job)
    finished_segments = _forward(JobService.finished_segments)
    create_avatar = _forward(JobService.create_avatar, _PROBE_S)
    change_avatar = _forward(JobService.change_avatar, _PROBE_S)
    add_clip = _forward(JobService.add_clip, _PROBE_S)
    clips = _forward(JobService.clips)
    delete_clip = _forward(JobService.delete_clip)
    get_avatar = _forward(JobService.get_avatar)
    list_avatars = _forward(JobService.list_avatars)
    delete_avatar = _forward(JobService.delete_avatar)
    create_background = _forward(JobService.create_background, _PROBE_S)
    delete_background = _forward(JobService.delete_background)
    people = _forward(JobService.people)
    usage = _forward(JobService.usage)
    start_token_session = _forward(JobService.start_token_session)
    end_token_session = _forward(JobService.end_token_session)
    status = _forward(JobService.status)

    async def wait_job(self, job_id: str, version: int, timeout_s: float) -> JobRecord:
        arguments = (job_id, version, timeout_s)
        return cast(JobRecord, await self._call("wait_job", *arguments, timeout_s=timeout_s + _QUICK_S))

    async def present(self, avatar_id: str, owner: str | None, engine: str, settings: AvatarSettings) -> ResolvedAvatar:
        arguments = (avatar_id, owner, engine, settings)
        return cast(ResolvedAvatar, await self._call("present", *arguments, timeout_s=_PROBE_S))

    async def report_live(self, usage: LiveUsage) -> None:
        await self._call("report_live", usage)

    async def pin(self, avatar_id: str, owner: str | None) -> None:
        await self._call("pin", avatar_id, owner)

    async def ready(self) -> bool:
        """See `JobService`; False if the Director cannot be reached.

        Raises:
            StandbyError: Another service leads.
            UnavailableError: The node of this process is being drained, or the service is stopping.
        """
        if await self._drain.is_draining():
            raise UnavailableError("This node is being drained.")
        try:
            return bool(await self._call("ready"))
        except UnavailableError:
            raise
        except LipwrightError:
            return False

    async def _call(self, method: str, *args: object, timeout_s: float = _QUICK_S, **kwargs: object) -> Any:
        send: Callable[..., Any] = self._director.call.remote
        for left in reversed(range(_MAX_ATTEMPTS)):
            response = send(context_or_empty(), method, *args, **kwargs)
            try:
                async with asyncio.timeout(timeout_s):
                    return await response
            except (Exception, asyncio.CancelledError) as error:
                cause, outcome = unwrap(error), classify(error)
            if outcome in (CallOutcome.CANCELLED, CallOutcome.LATE) and not isinstance(cause, LipwrightError):
                response.cancel()
            if outcome is not CallOutcome.LOST or not left:
                raise to_lipwright_error(cause, outcome, timeout_s) from None
            await asyncio.sleep(_RETRY_WAIT_S)
        raise AssertionError("unreachable: the last attempt returns or raises")
