"""Exceptions of the client.

    ClientError
    ├── ConnectionFailedError (ConnectionError)  connection_failed     connection refused, broken or timed out
    ├── UnexpectedAnswerError                    unexpected_answer     response is not from Lipwright
    ├── UploadError (ValueError)                 upload_unusable       a file cannot be sent
    ├── WaitTimeoutError (TimeoutError)          wait_timeout          the caller's timeout expired, the job continues
    └── ProblemError                             the service's code    request rejected or job failed
        ├── InputError (ValueError)              input_invalid
        │   ├── MediaError                       media_invalid
        │   ├── MediaLimitError                  media_too_large
        │   ├── FaceNotFoundError                face_not_found
        │   ├── OptionError                      option_invalid
        │   ├── RangeError                       range_not_satisfiable
        │   ├── KeyReuseError                    idempotency_key_reused
        │   ├── UrlRefusedError                  url_refused
        │   └── UrlFetchError                    url_fetch_failed
        ├── UnauthorizedError                    unauthorized
        ├── ForbiddenError                       forbidden
        ├── NotFoundError (LookupError)          not_found
        ├── StateError                           state_conflict
        │   └── InProgressError                  request_in_progress
        ├── CancelledJobError                    cancelled
        ├── CapacityError                        over_capacity
        │   ├── KeyLimitError                    key_limit_reached
        │   ├── BusyError                        busy
        │   └── UnavailableError                 unavailable
        │       ├── StandbyError                 standby
        │       ├── TableUnreachableError        job_table_unreachable
        │       └── StorageUnreachableError      storage_unreachable
        ├── StorageFullError                     storage_full
        └── ServiceError                         internal
            ├── StoredFileError                  stored_file_lost
            ├── StageTimeoutError                stage_timeout
            ├── ReplicaLostError                 replica_lost
            ├── TableLostError                    job_table_lost
            ├── VoiceError                       voice_failed
            ├── WeightsError                     weights_invalid
            ├── LabelError                       label_failed
            └── ConfigError                      config_invalid

Unknown codes map to the class of their status: `InputError` for 4xx, `ServiceError` otherwise. Arguments are
positional, so that all classes can be pickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "BusyError",
    "KeyLimitError",
    "CancelledJobError",
    "CapacityError",
    "ClientError",
    "ConfigError",
    "ConnectionFailedError",
    "FaceNotFoundError",
    "ForbiddenError",
    "InProgressError",
    "InputError",
    "KeyReuseError",
    "LabelError",
    "MediaError",
    "MediaLimitError",
    "NotFoundError",
    "OptionError",
    "Problem",
    "ProblemError",
    "RangeError",
    "ReplicaLostError",
    "ServiceError",
    "StageTimeoutError",
    "StandbyError",
    "StateError",
    "StorageFullError",
    "StorageUnreachableError",
    "StoredFileError",
    "TableLostError",
    "TableUnreachableError",
    "UnauthorizedError",
    "UnavailableError",
    "UnexpectedAnswerError",
    "UploadError",
    "UrlFetchError",
    "UrlRefusedError",
    "VoiceError",
    "WaitTimeoutError",
    "WeightsError",
]


@dataclass(frozen=True)
class Problem:
    """Why a request was rejected (RFC 9457) or a job failed.

    Attributes:
        code: Stable error code.
        title: Human-readable problem type.
        detail: What went wrong.
        status: HTTP status code; 0 for a failed job.
        retryable: Whether a retry can succeed.
        instance: Path of the request or job.
    """

    code: str
    title: str
    detail: str
    status: int = 0
    retryable: bool = False
    instance: str = ""


class ClientError(Exception):
    """Base class of all client errors. Argument: a human-readable message."""

    code: str = "client_error"
    retryable: bool = False

    @property
    def title(self) -> str:
        """Human-readable problem type."""
        return self.code.replace("_", " ").capitalize()

    @property
    def detail(self) -> str:
        """What went wrong."""
        return str(self.args[0]) if self.args else self.title


class ConnectionFailedError(ClientError, ConnectionError):
    """The service could not be reached, or the connection broke, on every try.

    Attributes:
        close_code: Code with which the service closed a live session (RFC 6455); None if there is none.
        is_timeout: Whether the service was reached, but did not answer in time.
    """

    code = "connection_failed"
    retryable = True
    close_code: int | None = None
    is_timeout: bool = False


class UnexpectedAnswerError(ClientError):
    """The response is not from Lipwright, but from a proxy or another service."""

    code = "unexpected_answer"


class UploadError(ClientError, ValueError):
    """A file cannot be sent, or cannot be sent again."""

    code = "upload_unusable"


class WaitTimeoutError(ClientError, TimeoutError):
    """The job did not end within the timeout. It continues."""

    code = "wait_timeout"


class ProblemError(ClientError):
    """A request was rejected, or a job failed.

    Args:
        problem: The problem.
        job_id: ID of the failed job; None if a request was rejected.
    """

    known_code: ClassVar[str] = ""
    _kinds: ClassVar[dict[str, type[ProblemError]]] = {}

    def __init_subclass__(cls, code: str = "") -> None:
        """Define the class of a code of the service."""
        if code:
            cls.known_code = code
            cls._kinds[code] = cls

    def __init__(self, problem: Problem, job_id: str | None = None) -> None:
        super().__init__(problem, job_id)
        self.problem = problem
        self.job_id = job_id
        self.code = problem.code
        self.retryable = problem.retryable

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"

    @property
    def title(self) -> str:
        """Human-readable problem type."""
        return self.problem.title

    @property
    def detail(self) -> str:
        """What went wrong."""
        return self.problem.detail


class InputError(ProblemError, ValueError, code="input_invalid"):
    """A file or option is invalid."""


class MediaError(InputError, code="media_invalid"):
    """A file cannot be decoded as audio, video or image."""


class MediaLimitError(InputError, code="media_too_large"):
    """A file exceeds a limit of the service."""


class FaceNotFoundError(InputError, code="face_not_found"):
    """The source has no usable face, or not the requested one."""


class OptionError(InputError, code="option_invalid"):
    """An option has an invalid value."""


class RangeError(InputError, code="range_not_satisfiable"):
    """The requested range is not satisfiable."""


class KeyReuseError(InputError, code="idempotency_key_reused"):
    """The idempotency key was used for a different request."""


class UrlRefusedError(InputError, code="url_refused"):
    """The service may not access this URL."""


class UrlFetchError(InputError, code="url_fetch_failed"):
    """The service could not download a URL."""


class UnauthorizedError(ProblemError, code="unauthorized"):
    """The API key is missing or unknown."""


class ForbiddenError(ProblemError, code="forbidden"):
    """The caller is not allowed to do this."""


class NotFoundError(ProblemError, LookupError, code="not_found"):
    """The job, avatar or file does not exist."""


class StateError(ProblemError, code="state_conflict"):
    """The operation is not possible in the current state."""


class InProgressError(StateError, code="request_in_progress"):
    """The same request is already being received."""


class CancelledJobError(ProblemError, code="cancelled"):
    """The job was cancelled."""


class CapacityError(ProblemError, code="over_capacity"):
    """The service was full until the retry policy gave up."""


class KeyLimitError(CapacityError, code="key_limit_reached"):
    """A limit of the API key is reached."""


class BusyError(CapacityError, code="busy"):
    """A part of the service is at its limit."""


class UnavailableError(CapacityError, code="unavailable"):
    """The service, or something it depends on, was unavailable until the retry policy gave up.

    A `CapacityError` so that code that handles a full service handles this too.
    """


class StandbyError(UnavailableError, code="standby"):
    """Another service on the same job table was the leader all the time."""


class TableUnreachableError(UnavailableError, code="job_table_unreachable"):
    """The service's database did not respond."""


class StorageUnreachableError(UnavailableError, code="storage_unreachable"):
    """The service's file storage did not respond."""


class StorageFullError(ProblemError, code="storage_full"):
    """The service's disk has too little space."""


class ServiceError(ProblemError, code="internal"):
    """The service failed."""


class StoredFileError(ServiceError, code="stored_file_lost"):
    """A stored file of the service is missing."""


class StageTimeoutError(ServiceError, code="stage_timeout"):
    """A stage timed out."""


class ReplicaLostError(ServiceError, code="replica_lost"):
    """A stage crashed on every try."""


class TableLostError(ServiceError, code="job_table_lost"):
    """The service lost its job table and must be restarted."""


class VoiceError(ServiceError, code="voice_failed"):
    """Text-to-speech failed."""


class WeightsError(ServiceError, code="weights_invalid"):
    """A weights file of the service is missing or invalid."""


class LabelError(ServiceError, code="label_failed"):
    """The result could not be labelled."""


class ConfigError(ServiceError, code="config_invalid"):
    """A setting of the service is invalid."""


def problem_error(problem: Problem, job_id: str | None = None) -> ProblemError:
    """Return the exception for a problem, by its code."""
    unknown: type[ProblemError] = InputError if 400 <= problem.status < 500 else ServiceError
    return ProblemError._kinds.get(problem.code, unknown)(problem, job_id)
