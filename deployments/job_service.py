"""What the HTTP API needs of the rest: the methods of the Director."""

from __future__ import annotations

from typing import Protocol

from storage.records import AvatarRecord, AvatarRequest, JobRecord, JobStatus, SubmitRequest


class JobService(Protocol):
    """Jobs and avatars. Every method raises `errors.LipwrightError` subclasses and nothing else on purpose."""

    async def admit(self) -> None:
        """Return when one more job would be accepted now, else raise CapacityError."""

    async def submit(self, request: SubmitRequest) -> JobRecord:
        """Check the inputs and accept the job for good."""
        ...

    async def get_job(self, job_id: str) -> JobRecord:
        """One job, or NotFoundError."""
        ...

    async def list_jobs(self, limit: int, status: JobStatus | None) -> list[JobRecord]:
        """The newest jobs first."""
        ...

    async def wait_job(self, job_id: str, version: int, timeout_s: float) -> JobRecord:
        """The job as soon as it is newer than `version` or final, or as it is after `timeout_s`."""
        ...

    async def cancel_job(self, job_id: str) -> JobRecord:
        """Cancel an unfinished job; a finished one comes back as it is."""
        ...

    async def create_avatar(self, request: AvatarRequest) -> AvatarRecord:
        """Keep a presenter and begin its analysis."""
        ...

    async def get_avatar(self, avatar_id: str) -> AvatarRecord:
        """One avatar, or NotFoundError."""
        ...

    async def list_avatars(self) -> list[AvatarRecord]:
        """The avatars that callers asked to keep, the newest first."""
        ...

    async def delete_avatar(self, avatar_id: str) -> None:
        """Forget an avatar; StateError while an unfinished job needs it."""

    async def ready(self) -> bool:
        """Whether every stage answers."""
        ...
