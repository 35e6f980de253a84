"""When a call is tried again, and when its answer stands."""

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

_AGAIN = (409, 429, 502, 503, 504)
"""Answers after which the same request may succeed: a problem has to say so as well, a gateway's own page need not."""
_OF_GATEWAYS = (502, 503, 504)
_IN_VAIN = ("stage_timeout", "voice_failed")
"""Problems of the request itself, which may come again each time: tried as often as a line that broke."""
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.25, 8.0
_DEFAULT_RETRY_S = 1.0


@dataclass(frozen=True)
class Patience:
    """How long a client goes on trying.

    Attributes:
        max_breaks: Tries of one call after a connection that could not be made or broke; each waits twice as long.
        max_full_s: How long a service that is full, or starting, is asked again: at its `Retry-After`, or each second.
        max_silence_s: How long a stream whose line broke is taken up again without a word from the service.
    """

    max_breaks: int = 3
    max_full_s: float = 120.0
    max_silence_s: float = 30.0


USUAL: Final = Patience()


class Attempts:
    """The tries of one call."""

    def __init__(self, call: Call[Any], patience: Patience) -> None:
        self._call = call
        self._patience = patience
        self._give_up_at = time.monotonic() + patience.max_full_s
        self._num_breaks = 0
        self._num_tries = 0

    def pause_after(self, outcome: httpx.Response | httpx.RequestError) -> float | None:
        """Seconds to wait before the next try; None when the answer stands.

        Raises:
            ConnectionFailedError: The line broke, and there is no further try.
        """
        self._num_tries += 1
        if isinstance(outcome, httpx.RequestError) or _is_in_vain(outcome):
            self._num_breaks += 1
            if self._num_breaks <= self._patience.max_breaks and self._call.body.can_be_sent_again:
                return pause_after_break(self._num_breaks)
            if isinstance(outcome, httpx.Response):
                return None
            raise connection_failed(outcome) from outcome
        pause_s = pause_after_refusal(outcome)
        is_late = pause_s is not None and time.monotonic() + pause_s > self._give_up_at
        return None if is_late or not self._call.body.can_be_sent_again else pause_s

    def is_done(self, answer: httpx.Response) -> bool:
        """Whether the answer, though no success, says that what was asked for has happened: on an earlier try."""
        return self._call.removes and answer.status_code == 404 and self._num_tries > 1


def _is_in_vain(answer: httpx.Response) -> bool:
    problem = None if answer.is_success else problem_of(answer)
    return problem is not None and problem.retryable and problem.code in _IN_VAIN


def pause_after_break(num_breaks: int) -> float:
    """Seconds to wait after so many broken lines in a row; spread, so that many clients do not come at once."""
    pause_s: float = min(_LAST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (num_breaks - 1))
    return pause_s * random.uniform(0.75, 1.25)


def pause_after_refusal(answer: httpx.Response) -> float | None:
    """Seconds after which the same request may succeed; None when the answer stands."""
    if answer.status_code not in _AGAIN:
        return None
    problem = problem_of(answer)
    if not (answer.status_code in _OF_GATEWAYS if problem is None else problem.retryable):
        return None
    told = answer.headers.get("retry-after", "")
    return float(told) if told.isdigit() else _DEFAULT_RETRY_S


def problem_of(answer: httpx.Response) -> Problem | None:
    """The problem document that a read answer carries, if it does."""
    with contextlib.suppress(ValueError, UnexpectedAnswerError):
        return from_json(Problem, answer.json())
    return None


def checked(answer: httpx.Response) -> httpx.Response:
    """The answer, if it is a success.

    Raises:
        ProblemError: The service said no.
        UnexpectedAnswerError: Somebody else did.
    """
    if answer.is_success:
        return answer
    problem = problem_of(answer)
    if problem is not None:
        raise problem_error(problem)
    raise UnexpectedAnswerError(f"{answer.request.url} answered {answer.status_code} {answer.reason_phrase}.")


def connection_failed(error: httpx.RequestError) -> ConnectionFailedError:
    """What a broken line is called."""
    reason = str(error) or type(error).__name__
    return ConnectionFailedError(f"The service cannot be reached: {reason}")
