"""Every error that Lipwright raises on purpose.

    LipwrightError                       500  internal
    ├── InputError (ValueError)          422  input_invalid          the caller's input; never retried
    │   ├── MediaError                   422  media_invalid          cannot be opened or decoded
    │   ├── MediaLimitError              413  media_too_large        decodes, but passes a limit
    │   ├── FaceNotFoundError            422  face_not_found
    │   ├── OptionError                  422  option_invalid
    │   ├── RangeError                   416  range_not_satisfiable  no byte of the file is in the requested range
    │   ├── KeyReuseError                422  idempotency_key_reused another request used this key before
    │   ├── UrlRefusedError              422  url_refused            its scheme, host or address is not allowed
    │   └── UrlFetchError                422  url_fetch_failed       retryable
    ├── UnauthorizedError                401  unauthorized           no API key, or an unknown one
    ├── ForbiddenError                   403  forbidden              known, but not allowed to do this
    ├── NotFoundError (LookupError)      404  not_found
    ├── StateError                       409  state_conflict         e.g. the video of a running job
    │   └── InProgressError              409  request_in_progress    retryable
    ├── CancelledJobError                409  cancelled
    ├── CapacityError                    429  over_capacity          retryable
    │   └── BusyError                    503  busy                   retryable
    ├── UnavailableError                 503  unavailable            retryable
    │   ├── StandbyError                 503  standby                retryable
    │   ├── TableUnreachableError        503  job_table_unreachable  retryable
    │   └── StorageUnreachableError      503  storage_unreachable    retryable
    ├── StorageFullError                 507  storage_full           retryable
    ├── StoredFileError                  500  stored_file_lost       a stored file is missing or damaged
    ├── TableLostError                   503  job_table_lost         retryable
    ├── StageTimeoutError (TimeoutError) 504  stage_timeout          retryable
    ├── ReplicaLostError                 503  replica_lost           retryable
    ├── VoiceError                       503  voice_failed           retryable
    ├── WeightsError                     500  weights_invalid
    ├── LabelError                       500  label_failed           a result could not be labelled as required
    └── ConfigError (ValueError)         500  config_invalid

Every class survives pickling between processes: its constructor takes the message first, and every other argument
has a default and is kept as an attribute. `code` is stable and is what clients match on; `retryable` says whether the
same request can succeed later; `retry_after_s`, where set, when.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

_RETRY_AFTER_S: Final = 5.0
_FOLDERS: Final = re.compile(r"(?<![\w./:])/(?:[^\s/'\"]+/)+")


class LipwrightError(Exception):
    """Base of every error raised on purpose. `str(error)` is one line for the user."""

    status_code: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    retry_after_s: float | None = None

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class InputError(LipwrightError, ValueError):
    """The caller's input is invalid; the message names the file, what was expected and what was found."""

    status_code = 422
    code = "input_invalid"


class MediaError(InputError):
    """A file cannot be opened or decoded as audio or video."""

    code = "media_invalid"


class MediaLimitError(InputError):
    """A file exceeds a limit of `config.MediaLimits`."""

    status_code = 413
    code = "media_too_large"


class FaceNotFoundError(InputError):
    """The source shows no usable face, or not the one asked for."""

    code = "face_not_found"


class OptionError(InputError):
    """An option has an invalid value."""

    code = "option_invalid"


class RangeError(InputError):
    """A `Range` header names no byte of the file.

    Attributes:
        num_bytes: Size of the file.
    """

    status_code = 416
    code = "range_not_satisfiable"

    def __init__(self, message: str = "", num_bytes: int = 0) -> None:
        super().__init__(message)
        self.num_bytes = num_bytes


class KeyReuseError(InputError):
    """An idempotency key was sent with a different request from the one that made its job."""

    code = "idempotency_key_reused"


class UrlRefusedError(InputError):
    """A URL is not fetched or called: `config.NetworkConfig` does not allow its scheme, host or address."""

    code = "url_refused"


class UrlFetchError(InputError):
    """A URL could not be fetched: no answer, a bad status, or too slow."""

    code = "url_fetch_failed"
    retryable = True


class UnauthorizedError(LipwrightError):
    """The request carries no API key where one is required, or an unknown one."""

    status_code = 401
    code = "unauthorized"


class ForbiddenError(LipwrightError):
    """The caller is authenticated, or needs no key, but may not do this."""

    status_code = 403
    code = "forbidden"


class NotFoundError(LipwrightError, LookupError):
    """There is no job, avatar or file of that name."""

    status_code = 404
    code = "not_found"


class StateError(LipwrightError):
    """The resource exists, but is not in a state that allows this."""

    status_code = 409
    code = "state_conflict"


class InProgressError(StateError):
    """Another request with the same idempotency key is being received."""

    code = "request_in_progress"
    retryable = True


class CancelledJobError(LipwrightError):
    """The job was cancelled by its owner."""

    status_code = 409
    code = "cancelled"


class CapacityError(LipwrightError):
    """The service is at a limit; the same request can succeed after `retry_after_s`.

    Attributes:
        retry_after_s: Seconds to wait before the next try.
    """

    status_code = 429
    code = "over_capacity"
    retryable = True
    retry_after_s: float

    def __init__(self, message: str = "", retry_after_s: float = _RETRY_AFTER_S) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BusyError(CapacityError):
    """One part of the service is at its limit; the rest of it goes on."""

    status_code = 503
    code = "busy"


class UnavailableError(LipwrightError):
    """Something that the service depends on does not answer. Nothing is lost; the same request can succeed later.

    Attributes:
        retry_after_s: Seconds to wait before the next try.
    """

    status_code = 503
    code = "unavailable"
    retryable = True
    retry_after_s: float

    def __init__(self, message: str = "", retry_after_s: float = _RETRY_AFTER_S) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StandbyError(UnavailableError):
    """Another service leads on the same job table; this one only answers reads."""

    code = "standby"


class TableUnreachableError(UnavailableError):
    """The database of the job table does not answer, or accepts no changes; its content is safe."""

    code = "job_table_unreachable"


class StorageUnreachableError(UnavailableError):
    """The bucket does not answer, or refuses access; its content is safe."""

    code = "storage_unreachable"


class StorageFullError(LipwrightError):
    """The disk is full, or would not hold what has to be written.

    Attributes:
        was_retried: Whether the work has already waited for space as long as it may.
    """

    status_code = 507
    code = "storage_full"
    retryable = True
    was_retried: bool

    def __init__(self, message: str = "", *, was_retried: bool = False) -> None:
        super().__init__(message)
        self.was_retried = was_retried


class StoredFileError(LipwrightError):
    """A stored file is missing or damaged; not the caller's fault."""

    code = "stored_file_lost"


class TableLostError(LipwrightError):
    """The file of the job table was deleted or replaced while the service runs; no jobs are accepted."""

    status_code = 503
    code = "job_table_lost"
    retryable = True


class StageTimeoutError(LipwrightError, TimeoutError):
    """A stage took longer than its limit.

    Attributes:
        was_retried: Whether the call was already retried, so that another retry will not help.
    """

    status_code = 504
    code = "stage_timeout"
    retryable = True

    def __init__(self, message: str = "", *, was_retried: bool = False) -> None:
        super().__init__(message)
        self.was_retried = was_retried


class ReplicaLostError(LipwrightError):
    """A stage's replica, or the decoder process of a file, died on every attempt.

    Attributes:
        was_retried: Whether the attempts of the call are used up, so that another retry will not help.
    """

    status_code = 503
    code = "replica_lost"
    retryable = True

    def __init__(self, message: str = "", *, was_retried: bool = False) -> None:
        super().__init__(message)
        self.was_retried = was_retried


class VoiceError(LipwrightError):
    """The text-to-speech service failed or could not be reached; not the caller's fault."""

    status_code = 503
    code = "voice_failed"
    retryable = True


class WeightsError(LipwrightError):
    """A weights file is missing, or not the expected one."""

    code = "weights_invalid"


class LabelError(LipwrightError):
    """A result could not be signed as configured; an unlabelled result is not returned."""

    code = "label_failed"


class ConfigError(LipwrightError, ValueError):
    """A setting is invalid."""

    code = "config_invalid"


def redacted(error: BaseException) -> str:
    """Return the class and message of an unexpected error for callers, without paths of this machine."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        message = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return _FOLDERS.sub("", f"{type(error).__name__}: {message}")


def internal_error(what: str, error: BaseException) -> LipwrightError:
    """Return the error that ends an operation after its last attempt raised an unexpected error.

    Args:
        what: The operation, and how often it was attempted.
        error: The unexpected error.
    """
    if isinstance(error, FileNotFoundError) and not isinstance(error, LipwrightError):
        return StoredFileError(f"{what}: a stored file is missing ({redacted(error)}).")
    return LipwrightError(f"internal error: {what}: {redacted(error)}")
