"""What a decoder process says about the one call that it was started for."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from errors import LipwrightError
from media.decoding.channel import Channel
from media.decoding.nursery import bound_cpu, check_memory


@dataclass(frozen=True)
class Failed:
    """An error that is raised in the process that asked."""

    error: Exception


def answer(work: Callable[[], object], cpu_seconds: float, channel: Channel) -> None:
    """Send what `work()` returns, or the error that it raises."""
    bound_cpu(cpu_seconds)
    try:
        value = work()
    except MemoryError:
        raise  # the exit code says it: there may be no memory left for a message
    except Exception as error:
        value = failed(error)
    check_memory()
    channel.send(value)


def failed(error: Exception) -> Failed:
    """The message for `error`; one of the project's own if that cannot travel."""
    if not isinstance(error, LipwrightError):
        error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return Failed(LipwrightError(f"{type(error).__name__}: {error}"))
    return Failed(error)
