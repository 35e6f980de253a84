"""What the HTTP API needs of the rest: the methods of the Director."""

from __future__ import annotations

from typing import Protocol

from storage.records import (
    Admission,
    AdmitRequest,
    AvatarRecord,
    AvatarRequest,
    JobRecord,
    JobStatus,
    ServiceStatus,
    SubmitRequest,
)


class JobService(Protocol):
    """Jobs and avatars. Every method raises `errors.LipwrightError` subclasses and nothing else on purpose.

    `owner` is the id of the caller's API key. It sees its own jobs and avatars; None, where no keys are used, sees all.
    """

    async def admit(self, request: AdmitRequest) -> Admission:
        """Keep a place for one body before it is read, or say why there is none."""
        ...

    async def widen(self, request: AdmitRequest, admission_id: str) -> Admission:
        """Grant a place more bytes and time, or say why there are none."""
        ...

    async def release(self, admission_id: str) -> None:
        """Give back a place whose body came to nothing."""

    async def submit(self, request: SubmitRequest) -> JobRecord:
        """Check the inputs and accept the job for good; sent again, it gives the same job."""
        ...

    async def get_job(self, job_id: str, owner: str | None) -> JobRecord:
        """One job, or NotFoundError."""
        ...

    async def list_jobs(self, limit: int, status: JobStatus | None, owner: str | None) -> list[JobRecord]:
        """The newest jobs first."""
        ...

    async def wait_job(self, job_id: str, version: int, timeout_s: float) -> JobRecord:
        """The job as soon as it is newer than `version` or final, or as it is after `timeout_s`."""
        ...

    async def cancel_job(self, job_id: str, owner: str | None) -> JobRecord:
        """Cancel an unfinished job; a finished one comes back as it is."""
        ...

    async def create_avatar(self, request: AvatarRequest) -> AvatarRecord:
        """Keep a presenter and begin its analysis."""
        ...

    async def get_avatar(self, avatar_id: str, owner: str | None) -> AvatarRecord:
        """One avatar, or NotFoundError."""
        ...

    async def list_avatars(self, owner: str | None) -> list[AvatarRecord]:
        """The avatars that callers asked to keep, the newest first."""
        ...

    async def delete_avatar(self, avatar_id: str, owner: str | None) -> None:
        """Forget an avatar; StateError while an unfinished job needs it."""

    async def status(self) -> ServiceStatus:
        """What waits, what runs, and how long a new job would wait."""
        ...

    async def ready(self) -> bool:
        """Whether every stage answers."""
        ...
