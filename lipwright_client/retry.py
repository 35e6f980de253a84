"""When to retry a call, and when to give up."""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import dataclass
from typing import Any, Final

import httpx

from lipwright_client.calls import Call
from lipwright_client.errors import ConnectionFailedError, Problem, UnexpectedAnswerError, problem_error
from lipwright_client.from_json import from_json

_RETRY_STATUSES = (409, 429, 502, 503, 504)
"""Statuses that may be retried: problems only if they are `retryable`, pages of a gateway always."""
_GATEWAY_STATUSES = (502, 503, 504)
_RETRY_LIKE_DISCONNECT = ("stage_timeout", "voice_failed")
"""Problems that may be caused by the request itself: retried at most `max_reconnects` times."""
_MIN_DELAY_S, _MAX_DELAY_S = 0.25, 8.0
_DEFAULT_RETRY_S = 1.0


@dataclass(frozen=True)
class RetryPolicy:
    """How long a client keeps retrying.

    Attributes:
        max_reconnects: Retries of one call after connection errors, with exponential backoff.
        max_backpressure_wait_s: How long to retry while the service is full or starting, after its `Retry-After` or
            every second. Counts from the first response that says so.
        max_silence_s: How long to reconnect a broken stream without receiving any data.
    """

    max_reconnects: int = 3
    max_backpressure_wait_s: float = 120.0
    max_silence_s: float = 30.0


DEFAULT_RETRY: Final = RetryPolicy()


class Retries:
    """Retry state of one call."""

    def __init__(self, call: Call[Any], retry: RetryPolicy) -> None:
        self._call = call
        self._retry = retry
        self._give_up_at: float | None = None
        self._num_reconnects = 0
        self._num_tries = 0

    def pause_after(self, outcome: httpx.Response | httpx.RequestError) -> float | None:
        """Return the delay before the next try in seconds; None if the response is final.

        Raises:
            ConnectionFailedError: The connection failed and there are no tries left.
        """
        self._num_tries += 1
        if isinstance(outcome, httpx.RequestError) or _is_retried_like_disconnect(outcome):
            self._num_reconnects += 1
            can_repeat = self._call.body.is_repeatable and self._call.is_idempotent
            if self._num_reconnects <= self._retry.max_reconnects and can_repeat:
                return reconnect_delay(self._num_reconnects)
            if isinstance(outcome, httpx.Response):
                return None
            raise connection_error(outcome) from None
        pause_s = retry_delay(outcome)
        if pause_s is None or not self._call.body.is_repeatable:
            return None
        now = time.monotonic()
        if self._give_up_at is None:  # the upload before may have taken hours
            self._give_up_at = now + self._retry.max_backpressure_wait_s
        may_be_done = not self._call.is_idempotent and problem_of(outcome) is None  # a gateway has answered
        return None if may_be_done or now + pause_s > self._give_up_at else pause_s

    def is_done(self, answer: httpx.Response) -> bool:
        """Return whether an unsuccessful response means that an earlier try succeeded."""
        return self._call.removes and answer.status_code == 404 and self._num_tries > 1


def _is_retried_like_disconnect(answer: httpx.Response) -> bool:
    problem = None if answer.is_success else problem_of(answer)
    return problem is not None and problem.retryable and problem.code in _RETRY_LIKE_DISCONNECT


def reconnect_delay(num_reconnects: int) -> float:
    """Return the delay after consecutive connection errors: exponential backoff with jitter."""
    pause_s: float = min(_MAX_DELAY_S, _MIN_DELAY_S * 2 ** (num_reconnects - 1))
    return pause_s * random.uniform(0.75, 1.25)


def retry_delay(answer: httpx.Response) -> float | None:
    """Return the delay after which the request may succeed; None if the response is final."""
    if answer.status_code not in _RETRY_STATUSES:
        return None
    problem = problem_of(answer)
    if not (answer.status_code in _GATEWAY_STATUSES if problem is None else problem.retryable):
        return None
    retry_after = answer.headers.get("retry-after", "")
    return float(retry_after) if retry_after.isdigit() else _DEFAULT_RETRY_S


def problem_of(answer: httpx.Response) -> Problem | None:
    """Return the problem document of a response, if it has one."""
    with contextlib.suppress(ValueError, UnexpectedAnswerError):
        return from_json(Problem, answer.json())
    return None


def checked(answer: httpx.Response) -> httpx.Response:
    """Return the response if it is successful.

    Raises:
        ProblemError: The service returned a problem.
        UnexpectedAnswerError: The response is not from Lipwright.
    """
    if answer.is_success:
        return answer
    problem = problem_of(answer)
    if problem is not None:
        raise problem_error(problem)
    raise UnexpectedAnswerError(f"{answer.request.url} answered {answer.status_code} {answer.reason_phrase}.")


def connection_error(error: httpx.RequestError) -> ConnectionFailedError:
    """Return the exception for a connection error."""
    reason, url = str(error) or type(error).__name__, error.request.url
    service = f"The service at {url.scheme}://{url.netloc.decode()}"
    if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
        late = ConnectionFailedError(f"{service} did not answer {error.request.method} {url.path} in time")
        late.is_timeout = True
        return late
    return ConnectionFailedError(f"{service} cannot be reached: {reason}")
