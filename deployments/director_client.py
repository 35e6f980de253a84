"""The Director behind its handle, as the `JobService` that the API talks to: every wait bounded, every error ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from errors import CapacityError, LipwrightError, ReplicaLostError, StageTimeoutError
from storage.records import AvatarRecord, AvatarRequest, JobRecord, JobStatus, SubmitRequest

_QUICK_S = 15.0  # a look into the table, with room for a Director that is just starting
_PROBE_S = 60.0  # submitting opens and probes both files
_READ_TRIES = 3


class DirectorClient:
    """Implements `deployments.job_service.JobService` over `director`.

    Calls that only read are sent again when the Director died under them; calls that change something are not.
    """

    def __init__(self, director: DeploymentHandle[Any]) -> None:
        self._director = director

    async def admit(self) -> None:
        """See `JobService`."""
        await self._call("admit", tries=_READ_TRIES)

    async def submit(self, request: SubmitRequest) -> JobRecord:
        """See `JobService`."""
        return await self._call("submit", request, timeout_s=_PROBE_S)  # type: ignore[no-any-return]

    async def get_job(self, job_id: str) -> JobRecord:
        """See `JobService`."""
        return await self._call("get_job", job_id, tries=_READ_TRIES)  # type: ignore[no-any-return]

    async def list_jobs(self, limit: int, status: JobStatus | None) -> list[JobRecord]:
        """See `JobService`."""
        return await self._call("list_jobs", limit, status, tries=_READ_TRIES)  # type: ignore[no-any-return]

    async def wait_job(self, job_id: str, version: int, timeout_s: float) -> JobRecord:
        """See `JobService`."""
        arguments = (job_id, version, timeout_s)
        bound_s = timeout_s + _QUICK_S
        return await self._call("wait_job", *arguments, timeout_s=bound_s, tries=_READ_TRIES)  # type: ignore[no-any-return]

    async def cancel_job(self, job_id: str) -> JobRecord:
        """See `JobService`; cancelling twice is harmless, so it is sent again like a read."""
        return await self._call("cancel_job", job_id, tries=_READ_TRIES)  # type: ignore[no-any-return]

    async def create_avatar(self, request: AvatarRequest) -> AvatarRecord:
        """See `JobService`."""
        return await self._call("create_avatar", request, timeout_s=_PROBE_S)  # type: ignore[no-any-return]

    async def get_avatar(self, avatar_id: str) -> AvatarRecord:
        """See `JobService`."""
        return await self._call("get_avatar", avatar_id, tries=_READ_TRIES)  # type: ignore[no-any-return]

    async def list_avatars(self) -> list[AvatarRecord]:
        """See `JobService`."""
        return await self._call("list_avatars", tries=_READ_TRIES)  # type: ignore[no-any-return]

    async def delete_avatar(self, avatar_id: str) -> None:
        """See `JobService`."""
        await self._call("delete_avatar", avatar_id)

    async def ready(self) -> bool:
        """See `JobService`; a Director that cannot be reached is not ready."""
        try:
            return bool(await self._call("ready"))
        except LipwrightError:
            return False

    async def _call(self, method: str, *arguments: object, timeout_s: float = _QUICK_S, tries: int = 1) -> Any:
        send: Callable[..., Any] = getattr(self._director, method).remote
        for left in reversed(range(tries)):
            response = send(*arguments)
            try:
                return await asyncio.wait_for(response, timeout_s)
            except asyncio.CancelledError:
                response.cancel()
                raise
            except RayTaskError as error:
                raise _cause(error) from None
            except TimeoutError:
                response.cancel()
                raise StageTimeoutError(f"The service did not answer within {timeout_s:.0f} s.") from None
            except BackPressureError as error:
                raise CapacityError("The service has too many requests at once.", error.retry_after_s or 1.0) from error
            except DeploymentUnavailableError as error:
                raise ReplicaLostError("The service is not deployed at the moment.") from error
            except RayActorError as error:
                if not left:
                    raise ReplicaLostError("The service is restarting; the request was not answered.") from error
        raise AssertionError("unreachable: the last try returns or raises")


def _cause(error: RayTaskError) -> BaseException:
    """The exception that was raised over there, without Ray's wrapper and its traceback text."""
    cause: BaseException = error
    while isinstance(cause, RayTaskError) and isinstance(cause.cause, BaseException):
        cause = cause.cause
    if isinstance(cause, BackPressureError):
        return CapacityError("The service has too many requests at once.", cause.retry_after_s or 1.0)
    return cause
