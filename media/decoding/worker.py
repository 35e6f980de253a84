"""What a decoder process says about the one call that it was started for."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from errors import LipwrightError
from media.decoding.channel import Channel
from media.decoding.forkserver import bound_cpu, bound_wall, check_memory
from media.decoding.reply_codec import ErrorReply


def run_and_reply(work: Callable[[], object], cpu_seconds: float, deadline: float, channel: Channel) -> None:
    """Send what `work()` returns, or the error that it raises.

    Args:
        work: What is asked for.
        cpu_seconds: Processor time that it may take.
        deadline: When it has to be done, by the monotonic clock, which all processes of a machine share.
        channel: Where the answer goes.
    """
    bound_cpu(cpu_seconds)
    bound_wall(deadline)
    try:
        value = work()
    except MemoryError:
        raise  # the exit code says it: there may be no memory left for a message
    except Exception as error:
        value = error_reply(error)
    check_memory()
    channel.send(value)


def error_reply(error: Exception) -> ErrorReply:
    """The message for `error`; the traceback of one that is not on purpose goes to the log."""
    if not isinstance(error, LipwrightError | OSError):
        traceback.print_exception(error, file=sys.stderr)
    return ErrorReply.of(error)
