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
    │   ├── KeyLimitError                429  key_limit_reached      retryable
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
from copy import copy
from typing import ClassVar, Final, TypeVar

_RETRY_AFTER_S: Final = 5.0
_FOLDERS: Final = re.compile(r"(?<![\w./:])/(?:[^\s/'\"]+/)+")


class LipwrightError(Exception):
    """Base of every error raised on purpose. `str(error)` is one line for the user."""

    status_code: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    retry_after_s: float | None = None

    def __init_subclass__(
        cls, *, code: str | None = None, status_code: int | None = None, retryable: bool | None = None
    ) -> None:
        """Set the class attributes that are given; the others are inherited."""
        super().__init_subclass__()
        cls.code = cls.code if code is None else code
        cls.status_code = cls.status_code if status_code is None else status_code
        cls.retryable = cls.retryable if retryable is None else retryable

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class InputError(LipwrightError, ValueError, code="input_invalid", status_code=422):
    """The caller's input is invalid; the message names the file, what was expected and what was found."""


class MediaError(InputError, code="media_invalid"):
    """A file cannot be opened or decoded as audio or video."""


class MediaLimitError(InputError, code="media_too_large", status_code=413):
    """A file exceeds a limit of `lipwright.config.MediaLimits`."""


class FaceNotFoundError(InputError, code="face_not_found"):
    """The source shows no usable face, or not the one asked for."""


class OptionError(InputError, code="option_invalid"):
    """An option has an invalid value."""


class RangeError(InputError, code="range_not_satisfiable", status_code=416):
    """A `Range` header names no byte of the file.

    Attributes:
        num_bytes: Size of the file.
    """

    def __init__(self, message: str = "", num_bytes: int = 0) -> None:
        super().__init__(message)
        self.num_bytes = num_bytes


class KeyReuseError(InputError, code="idempotency_key_reused"):
    """An idempotency key was sent with a different request from the one that made its job."""


class UrlRefusedError(InputError, code="url_refused"):
    """A URL is not fetched or called: `lipwright.config.NetworkConfig` does not allow its scheme, host or address."""


class UrlFetchError(InputError, code="url_fetch_failed", retryable=True):
    """A URL could not be fetched: no answer, a bad status, or too slow."""


class UnauthorizedError(LipwrightError, code="unauthorized", status_code=401):
    """The request carries no API key where one is required, or an unknown one."""


class ForbiddenError(LipwrightError, code="forbidden", status_code=403):
    """The caller is authenticated, or needs no key, but may not do this."""


class NotFoundError(LipwrightError, LookupError, code="not_found", status_code=404):
    """There is no job, avatar or file of that name."""


class StateError(LipwrightError, code="state_conflict", status_code=409):
    """The resource exists, but is not in a state that allows this."""


class InProgressError(StateError, code="request_in_progress", retryable=True):
    """Another request with the same idempotency key is being received."""


class CancelledJobError(LipwrightError, code="cancelled", status_code=409):
    """The job was cancelled by its owner."""


class CapacityError(LipwrightError, code="over_capacity", status_code=429, retryable=True):
    """The service is at a limit; the same request can succeed after `retry_after_s`.

    Attributes:
        retry_after_s: Seconds to wait before the next try.
    """

    retry_after_s: float

    def __init__(self, message: str = "", retry_after_s: float = _RETRY_AFTER_S) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class KeyLimitError(CapacityError, code="key_limit_reached"):
    """A limit that the operator has set for the API key is reached; see `lipwright keys limit`."""


class BusyError(CapacityError, code="busy", status_code=503):
    """One part of the service is at its limit; the rest of it goes on."""


class UnavailableError(LipwrightError, code="unavailable", status_code=503, retryable=True):
    """Something that the service depends on does not answer. Nothing is lost; the same request can succeed later.

    Attributes:
        retry_after_s: Seconds to wait before the next try.
    """

    retry_after_s: float

    def __init__(self, message: str = "", retry_after_s: float = _RETRY_AFTER_S) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StandbyError(UnavailableError, code="standby"):
    """Another service leads on the same job table; this one only answers reads."""


class TableUnreachableError(UnavailableError, code="job_table_unreachable"):
    """The database of the job table does not answer, or accepts no changes; its content is safe."""


class StorageUnreachableError(UnavailableError, code="storage_unreachable"):
    """The bucket does not answer, or refuses access; its content is safe."""


class StorageFullError(LipwrightError, code="storage_full", status_code=507, retryable=True):
    """The disk is full, or would not hold what has to be written.

    Attributes:
        was_retried: Whether the work has already waited for space as long as it may.
    """

    was_retried: bool

    def __init__(self, message: str = "", *, was_retried: bool = False) -> None:
        super().__init__(message)
        self.was_retried = was_retried


class StoredFileError(LipwrightError, code="stored_file_lost"):
    """A stored file is missing or damaged; not the caller's fault."""


class TableLostError(LipwrightError, code="job_table_lost", status_code=503, retryable=True):
    """The file of the job table was deleted or replaced while the service runs; no jobs are accepted."""


class StageTimeoutError(LipwrightError, TimeoutError, code="stage_timeout", status_code=504, retryable=True):
    """A stage took longer than its limit.

    Attributes:
        was_retried: Whether the call was already retried, so that another retry will not help.
    """

    def __init__(self, message: str = "", *, was_retried: bool = False) -> None:
        super().__init__(message)
        self.was_retried = was_retried


class ReplicaLostError(LipwrightError, code="replica_lost", status_code=503, retryable=True):
    """A stage's replica, or the decoder process of a file, died on every attempt.

    Attributes:
        was_retried: Whether the attempts of the call are used up, so that another retry will not help.
    """

    def __init__(self, message: str = "", *, was_retried: bool = False) -> None:
        super().__init__(message)
        self.was_retried = was_retried


class VoiceError(LipwrightError, code="voice_failed", status_code=503, retryable=True):
    """A voice, or a server that transcribes or translates, failed or cannot be reached; not the caller's fault.

    Attributes:
        is_unreachable: Whether the service did not take the request, so that the same request can succeed soon.
    """

    def __init__(self, message: str = "", *, is_unreachable: bool = False) -> None:
        super().__init__(message)
        self.is_unreachable = is_unreachable


class WeightsError(LipwrightError, code="weights_invalid"):
    """A weights file is missing, or not the expected one."""


class LabelError(LipwrightError, code="label_failed"):
    """A result could not be signed as configured; an unlabelled result is not returned."""


class ConfigError(LipwrightError, ValueError, code="config_invalid"):
    """A setting is invalid."""


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


E = TypeVar("E", bound=LipwrightError)


def with_name(error: E, name: str) -> E:
    """Return a copy of an error that names what it is about, with the same attributes."""
    named = copy(error)
    named.args = (f"{name}: {error}", *error.args[1:])
    return named
