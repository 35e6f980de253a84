"""The Director's handle as the `JobService` that the API uses: with timeouts, and with our own errors."""

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

_QUICK_S = 30.0  # a query of the table, with time for a Director that is just starting
_PROBE_S = 900.0  # MediaProbe opens both files first
_MAX_ATTEMPTS = 4
_RETRY_WAIT_S = 0.3


class DirectorClient:
    """Implements `jobs.ports.JobService` over `director`.

    A lost call, usually because the Director died, is retried: all calls are idempotent.
    """

    def __init__(self, director: DeploymentHandle[Any]) -> None:
        self._director = director

    async def admit(self, request: AdmitRequest) -> Admission:
        """See `JobService`; reservations do not survive a restart of the Director."""
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
        """See `JobService`; False if the Director cannot be reached.

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
        for left in reversed(range(_MAX_ATTEMPTS)):
            response = send(*arguments)
            try:
                return await asyncio.wait_for(response, timeout_s)
            except (Exception, asyncio.CancelledError) as error:
                cause, outcome = unwrap(error), classify(error)
            if outcome in (CallOutcome.CANCELLED, CallOutcome.LATE) and not isinstance(cause, LipwrightError):
                response.cancel()
            if outcome is not CallOutcome.LOST or not left:
                raise _to_lipwright_error(cause, outcome, timeout_s) from None
            await asyncio.sleep(_RETRY_WAIT_S)
        raise AssertionError("unreachable: the last attempt returns or raises")


def _to_lipwright_error(cause: BaseException, outcome: CallOutcome, timeout_s: float) -> BaseException:
    """Return the error that the API sees: our own errors as they are, and Ray's errors translated."""
    if isinstance(cause, LipwrightError) or outcome is CallOutcome.CANCELLED:
        return cause
    if isinstance(cause, BackPressureError):
        return CapacityError("The service has too many requests at once.", cause.retry_after_s or 1.0)
    if outcome is CallOutcome.LATE:
        return StageTimeoutError(f"The service did not answer within {timeout_s:.0f} s.")
    if isinstance(cause, RayError | RayServeException):
        return ReplicaLostError("The service is restarting; the request was not answered.")
    return cause
