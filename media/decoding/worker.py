"""Runs the one call that a decoder process was started for, and sends its result."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from errors import LipwrightError
from media.decoding.channel import Channel
from media.decoding.forkserver import bound_cpu, bound_wall, check_memory
from media.decoding.reply_codec import ErrorReply


def run_and_reply(work: Callable[[], object], cpu_seconds: float, deadline: float, channel: Channel) -> None:
    """Sends what `work()` returns, or the error that it raises.

    Args:
        work: The call.
        cpu_seconds: CPU time it may take.
        deadline: When it must be done, on the monotonic clock, which all processes of a machine share.
        channel: Where the reply is sent.
    """
    bound_cpu(cpu_seconds)
    bound_wall(deadline)
    try:
        value = work()
    except MemoryError:
        raise  # reported by the exit code: there may be no memory left for a message
    except Exception as error:
        value = error_reply(error)
    check_memory()
    channel.send(value)


def error_reply(error: Exception) -> ErrorReply:
    """Returns the reply for `error`; the traceback of an unexpected error is printed to the log."""
    if not isinstance(error, LipwrightError | OSError):
        traceback.print_exception(error, file=sys.stderr)
    return ErrorReply.of(error)
