"""Everything that a client raises on purpose.

    ClientError
    ├── ConnectionFailedError (ConnectionError)  connection_failed     no answer: refused, broken off, too slow
    ├── UnexpectedAnswerError                    unexpected_answer     an answer that is not Lipwright's
    ├── UploadError (ValueError)                 upload_unusable       what was given cannot be sent
    ├── WaitTimeoutError (TimeoutError)          wait_timeout          the job goes on, the caller's patience ended
    └── ProblemError                             the service's code    it said no, or the job failed
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

A code that is not listed comes as the class of its status: `InputError` for 4xx, `ServiceError` for the rest. Arguments
are positional, so that each class survives pickling.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Problem:
    """Why the service said no (RFC 9457), or why a job failed.

    Attributes:
        code: Stable name of the problem.
        title: The kind of problem in words.
        detail: What happened this time.
        status: The HTTP status code; 0 for a job that failed.
        retryable: Whether the same can succeed later.
        instance: Path of the request, or of the job.
    """

    code: str
    title: str
    detail: str
    status: int = 0
    retryable: bool = False
    instance: str = ""


class ClientError(Exception):
    """Base of everything that a client raises on purpose. Argument: one line for people."""

    code: str = "client_error"
    retryable: bool = False

    @property
    def title(self) -> str:
        """The kind of problem in words."""
        return self.code.replace("_", " ").capitalize()

    @property
    def detail(self) -> str:
        """What happened this time."""
        return str(self.args[0]) if self.args else self.title


class ConnectionFailedError(ClientError, ConnectionError):
    """The service could not be reached, or broke off, as often as it was tried."""

    code = "connection_failed"
    retryable = True


class UnexpectedAnswerError(ClientError):
    """What answers at this address does not speak as Lipwright does: a proxy, or another service."""

    code = "unexpected_answer"


class UploadError(ClientError, ValueError):
    """What was given as a file cannot be sent, or cannot be sent a second time."""

    code = "upload_unusable"


class WaitTimeoutError(ClientError, TimeoutError):
    """The job did not end while the caller was ready to wait. It goes on, unless it says otherwise."""

    code = "wait_timeout"


class ProblemError(ClientError):
    """The service said no, or the job failed.

    Args:
        problem: What it said.
        job_id: The job that failed; None when a request was refused.
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
        """The kind of problem in words."""
        return self.problem.title

    @property
    def detail(self) -> str:
        """What happened this time; names the file, the expected and the found."""
        return self.problem.detail


class InputError(ProblemError, ValueError):
    """The files or options cannot be used."""

    known_code = "input_invalid"


class MediaError(InputError):
    """A file cannot be opened or decoded as sound or picture."""

    known_code = "media_invalid"


class MediaLimitError(InputError):
    """A file passes a limit of the service."""

    known_code = "media_too_large"


class FaceNotFoundError(InputError):
    """No usable face in the source, or not the one that was asked for."""

    known_code = "face_not_found"


class OptionError(InputError):
    """An option has a value that does not exist."""

    known_code = "option_invalid"


class RangeError(InputError):
    """No byte of the file lies in what was asked for."""

    known_code = "range_not_satisfiable"


class KeyReuseError(InputError):
    """Another submission bore this idempotency key before."""

    known_code = "idempotency_key_reused"


class UrlRefusedError(InputError):
    """The service does not fetch or call that URL."""

    known_code = "url_refused"


class UrlFetchError(InputError):
    """The service could not fetch what a URL names."""

    known_code = "url_fetch_failed"


class UnauthorizedError(ProblemError):
    """The service wants an API key, or does not know this one."""

    known_code = "unauthorized"


class ForbiddenError(ProblemError):
    """This caller may not do this."""

    known_code = "forbidden"


class NotFoundError(ProblemError, LookupError):
    """No job, avatar or file of that name."""

    known_code = "not_found"


class StateError(ProblemError):
    """The thing exists, but is not in a state in which this can be done."""

    known_code = "state_conflict"


class InProgressError(StateError):
    """The same submission is being received at the moment."""

    known_code = "request_in_progress"


class CancelledJobError(ProblemError):
    """The job was cancelled."""

    known_code = "cancelled"


class CapacityError(ProblemError):
    """The service was full for as long as the client asked."""

    known_code = "over_capacity"


class BusyError(CapacityError):
    """One part of the service had as many callers as it takes."""

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
    """The database of the service's job table did not answer all the while."""

    known_code = "job_table_unreachable"


class StorageUnreachableError(UnavailableError):
    """The bucket in which the service keeps its files did not answer all the while."""

    known_code = "storage_unreachable"


class StorageFullError(ProblemError):
    """The service's disk would not hold the job."""

    known_code = "storage_full"


class ServiceError(ProblemError):
    """The service failed; the caller did nothing wrong."""

    known_code = "internal"


class StoredFileError(ServiceError):
    """A file that the service keeps is gone."""

    known_code = "stored_file_lost"


class StageTimeoutError(ServiceError):
    """A stage took longer than its bound."""

    known_code = "stage_timeout"


class ReplicaLostError(ServiceError):
    """A stage died on every attempt."""

    known_code = "replica_lost"


class TableLostError(ServiceError):
    """The service has lost its job table, and takes no jobs until it is started again."""

    known_code = "job_table_lost"


class VoiceError(ServiceError):
    """What makes speech of text was away, or gave something else."""

    known_code = "voice_failed"


class WeightsError(ServiceError):
    """A weights file of the service is missing or wrong."""

    known_code = "weights_invalid"


class LabelError(ServiceError):
    """The result could not be labelled as it has to be."""

    known_code = "label_failed"


class ConfigError(ServiceError):
    """A setting of the service cannot be used."""

    known_code = "config_invalid"


def problem_error(problem: Problem, job_id: str | None = None) -> ProblemError:
    """The exception of `problem`, by its code."""
    unknown: type[ProblemError] = InputError if 400 <= problem.status < 500 else ServiceError
    kind = next((each for each in _kinds(ProblemError) if each.known_code == problem.code), unknown)
    return kind(problem, job_id)


def _kinds(kind: type[ProblemError]) -> Iterator[type[ProblemError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _kinds(child)
