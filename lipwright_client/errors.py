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

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar


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
    """The service could not be reached, or the connection broke, on every try."""

    code = "connection_failed"
    retryable = True


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


class InputError(ProblemError, ValueError):
    """A file or option is invalid."""

    known_code = "input_invalid"


class MediaError(InputError):
    """A file cannot be decoded as audio, video or image."""

    known_code = "media_invalid"


class MediaLimitError(InputError):
    """A file exceeds a limit of the service."""

    known_code = "media_too_large"


class FaceNotFoundError(InputError):
    """The source has no usable face, or not the requested one."""

    known_code = "face_not_found"


class OptionError(InputError):
    """An option has an invalid value."""

    known_code = "option_invalid"


class RangeError(InputError):
    """The requested range is not satisfiable."""

    known_code = "range_not_satisfiable"


class KeyReuseError(InputError):
    """The idempotency key was used for a different request."""

    known_code = "idempotency_key_reused"


class UrlRefusedError(InputError):
    """The service may not access this URL."""

    known_code = "url_refused"


class UrlFetchError(InputError):
    """The service could not download a URL."""

    known_code = "url_fetch_failed"


class UnauthorizedError(ProblemError):
    """The API key is missing or unknown."""

    known_code = "unauthorized"


class ForbiddenError(ProblemError):
    """The caller is not allowed to do this."""

    known_code = "forbidden"


class NotFoundError(ProblemError, LookupError):
    """The job, avatar or file does not exist."""

    known_code = "not_found"


class StateError(ProblemError):
    """The operation is not possible in the current state."""

    known_code = "state_conflict"


class InProgressError(StateError):
    """The same request is already being received."""

    known_code = "request_in_progress"


class CancelledJobError(ProblemError):
    """The job was cancelled."""

    known_code = "cancelled"


class CapacityError(ProblemError):
    """The service was full until the retry policy gave up."""

    known_code = "over_capacity"


class BusyError(CapacityError):
    """A part of the service is at its limit."""

    known_code = "busy"


class UnavailableError(CapacityError):
    """The service, or something it depends on, was unavailable until the retry policy gave up.

    A `CapacityError` so that code that handles a full service handles this too.
    """

    known_code = "unavailable"


class StandbyError(UnavailableError):
    """Another service on the same job table was the leader all the time."""

    known_code = "standby"


class TableUnreachableError(UnavailableError):
    """The service's database did not respond."""

    known_code = "job_table_unreachable"


class StorageUnreachableError(UnavailableError):
    """The service's file storage did not respond."""

    known_code = "storage_unreachable"


class StorageFullError(ProblemError):
    """The service's disk has too little space."""

    known_code = "storage_full"


class ServiceError(ProblemError):
    """The service failed."""

    known_code = "internal"


class StoredFileError(ServiceError):
    """A stored file of the service is missing."""

    known_code = "stored_file_lost"


class StageTimeoutError(ServiceError):
    """A stage timed out."""

    known_code = "stage_timeout"


class ReplicaLostError(ServiceError):
    """A stage crashed on every try."""

    known_code = "replica_lost"


class TableLostError(ServiceError):
    """The service lost its job table and must be restarted."""

    known_code = "job_table_lost"


class VoiceError(ServiceError):
    """Text-to-speech failed."""

    known_code = "voice_failed"


class WeightsError(ServiceError):
    """A weights file of the service is missing or invalid."""

    known_code = "weights_invalid"


class LabelError(ServiceError):
    """The result could not be labelled."""

    known_code = "label_failed"


class ConfigError(ServiceError):
    """A setting of the service is invalid."""

    known_code = "config_invalid"


def problem_error(problem: Problem, job_id: str | None = None) -> ProblemError:
    """Return the exception for a problem, by its code."""
    unknown: type[ProblemError] = InputError if 400 <= problem.status < 500 else ServiceError
    kind = next((each for each in _kinds(ProblemError) if each.known_code == problem.code), unknown)
    return kind(problem, job_id)


def _kinds(kind: type[ProblemError]) -> Iterator[type[ProblemError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _kinds(child)
