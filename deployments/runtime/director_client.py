"""The Director behind its handle, as the `JobService` that the API talks to: every wait bounded, every error ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.runtime.outcomes import CallOutcome, classify, unwrap
from errors import CapacityError, LipwrightError, ReplicaLostError, StageTimeoutError, StandbyError
from jobs.admission import Admission, AdmitRequest
from jobs.job_request import AvatarRequest, JobRequest
from jobs.messages import AvatarRef
from jobs.status import ServiceStatus
from storage.records import AvatarRecord, JobPage, JobQuery, JobRecord, SegmentRecord

_QUICK_S = 30.0  # a look into the table, with room for a Director that is just starting
_PROBE_S = 900.0  # submitting probes both files, on a Studio that may be rendering
_TRIES = 4
_PAUSE_S = 0.3


class DirectorClient:
    """Implements `jobs.ports.JobService` over `director`.

    A call that was lost, with its Director as a rule, is sent again: each of them may be done twice without harm.
    """

    def __init__(self, director: DeploymentHandle[Any]) -> None:
        self._director = director

    async def admit(self, request: AdmitRequest) -> Admission:
        """See `JobService`; a place that a dead Director kept went with it."""
        return await self._call("admit", request)  # type: ignore[no-any-return]

    async def widen(self, request: AdmitRequest, admission_id: str) -> Admission:
        """See `JobService`."""
        return await self._call("widen", request, admission_id)  # type: ignore[no-any-return]

    async def extend(self, admission_id: str, num_bytes: int) -> int:
        """See `JobService`."""
        return await self._call("extend", admission_id, num_bytes)  # type: ignore[no-any-return]

    async def release(self, admission_id: str) -> None:
        """See `JobService`."""
        await self._call("release", admission_id)

    async def submit(self, request: JobRequest) -> JobRecord:
        """See `JobService`."""
        return await self._call("submit", request, timeout_s=_PROBE_S)  # type: ignore[no-any-return]

    async def get_job(self, job_id: str, owner: str | None = None) -> JobRecord:
        """See `JobService`."""
        return await self._call("get_job", job_id, owner)  # type: ignore[no-any-return]

    async def find_job(self, idempotency_key: str, owner: str | None = None) -> JobRecord | None:
        """See `JobService`."""
        return await self._call("find_job", idempotency_key, owner)  # type: ignore[no-any-return]

    async def release_idempotency_key(self, job_id: str, owner: str | None = None) -> None:
        """See `JobService`."""
        await self._call("release_idempotency_key", job_id, owner)

    async def list_jobs(self, query: JobQuery) -> JobPage:
        """See `JobService`."""
        return await self._call("list_jobs", query)  # type: ignore[no-any-return]

    async def wait_job(self, job_id: str, version: int, timeout_s: float) -> JobRecord:
        """See `JobService`."""
        arguments = (job_id, version, timeout_s)
        return await self._call("wait_job", *arguments, timeout_s=timeout_s + _QUICK_S)  # type: ignore[no-any-return]

    async def cancel_job(self, job_id: str, owner: str | None = None) -> JobRecord:
        """See `JobService`."""
        return await self._call("cancel_job", job_id, owner)  # type: ignore[no-any-return]

    async def delete_job(self, job_id: str, owner: str | None = None) -> None:
        """See `JobService`."""
        await self._call("delete_job", job_id, owner)

    async def finished_segments(self, job_id: str, owner: str | None = None) -> list[SegmentRecord]:
        """See `JobService`."""
        return await self._call("finished_segments", job_id, owner)  # type: ignore[no-any-return]

    async def create_avatar(self, request: AvatarRequest) -> AvatarRecord:
        """See `JobService`."""
        return await self._call("create_avatar", request, timeout_s=_PROBE_S)  # type: ignore[no-any-return]

    async def get_avatar(self, avatar_id: str, owner: str | None = None) -> AvatarRecord:
        """See `JobService`."""
        return await self._call("get_avatar", avatar_id, owner)  # type: ignore[no-any-return]

    async def present(self, avatar_id: str, owner: str | None, engine: str) -> AvatarRef:
        """See `Director.present`."""
        arguments = (avatar_id, owner, engine)
        return await self._call("present", *arguments, timeout_s=_PROBE_S)  # type: ignore[no-any-return]

    async def hold(self, avatar_id: str, owner: str | None) -> None:
        """See `Director.hold`."""
        await self._call("hold", avatar_id, owner)

    async def list_avatars(self, owner: str | None = None) -> list[AvatarRecord]:
        """See `JobService`."""
        return await self._call("list_avatars", owner)  # type: ignore[no-any-return]

    async def delete_avatar(self, avatar_id: str, owner: str | None = None) -> None:
        """See `JobService`."""
        await self._call("delete_avatar", avatar_id, owner)

    async def status(self) -> ServiceStatus:
        """See `JobService`."""
        return await self._call("status")  # type: ignore[no-any-return]

    async def ready(self) -> bool:
        """See `JobService`; a Director that cannot be reached is not ready.

        Raises:
            StandbyError: Another service leads.
        """
        try:
            return bool(await self._call("ready"))
        except StandbyError:
            raise
        except LipwrightError:
            return False

    async def _call(self, method: str, *arguments: object, timeout_s: float = _QUICK_S) -> Any:
        send: Callable[..., Any] = getattr(self._director, method).remote
        for left in reversed(range(_TRIES)):
            response = send(*arguments)
            try:
                return await asyncio.wait_for(response, timeout_s)
            except (Exception, asyncio.CancelledError) as error:
                cause, outcome = unwrap(error), classify(error)
            if outcome in (CallOutcome.CANCELLED, CallOutcome.LATE) and not isinstance(cause, LipwrightError):
                response.cancel()
            if outcome is not CallOutcome.LOST or not left:
                raise _ours(cause, outcome, timeout_s) from None
            await asyncio.sleep(_PAUSE_S)
        raise AssertionError("unreachable: the last try returns or raises")


def _ours(cause: BaseException, outcome: CallOutcome, timeout_s: float) -> BaseException:
    """What the API is told: verdicts as they are, and what Ray means by its errors."""
    if isinstance(cause, LipwrightError) or outcome is CallOutcome.CANCELLED:
        return cause
    if isinstance(cause, BackPressureError):
        return CapacityError("The service has too many requests at once.", cause.retry_after_s or 1.0)
    if outcome is CallOutcome.LATE:
        return StageTimeoutError(f"The service did not answer within {timeout_s:.0f} s.")
    if isinstance(cause, RayError | RayServeException):
        return ReplicaLostError("The service is restarting; the request was not answered.")
    return cause
