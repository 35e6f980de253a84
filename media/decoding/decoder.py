"""Files that callers sent are decoded in processes of their own: what one does to its decoder harms nobody else.

A decoder that crashes, needs too much memory, computes without end or hangs is killed, and ends in an error that
names its file. What code that took a decoder over could still do, `media.decoding.sandbox` says.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeVar

from config import DecoderConfig
from errors import CancelledJobError, LipwrightError, MediaError, MediaLimitError, ReplicaLostError, StageTimeoutError
from media.cancel_token import CancelToken
from media.decoding.channel import Channel, Message
from media.decoding.forkserver import MEMORY_BUDGET, OUT_OF_MEMORY, Task
from media.decoding.forkserver_client import ForkserverClient
from media.decoding.memory_budget import budget_bytes
from media.decoding.reply_codec import ErrorReply, InvalidReplyError, ProcessExit
from media.decoding.sandbox import SandboxPolicy
from media.decoding.worker import run_and_reply

T = TypeVar("T")

_MAX_READER_CPU_S: Final = 3600.0
"""Processor time of a decoder that is asked again and again; another one takes over from it."""
_GRACE_S: Final = 2.0
"""A decoder that is late ends itself, and its processor time is known; one that cannot is killed so much later."""
_MAX_MESSAGE_BYTES: Final = 256 * 1024**2
"""Memory file of one that writes no other: a batch of frames."""


DecoderDeath = Literal["memory", "cpu_time", "wall_time", "crash"]
"""Why a decoder process ended before its answer."""
OnDeath = Callable[[DecoderDeath], None]


class LostDecoderError(Exception):
    """A decoder is gone for a reason that lies outside it: the same request to another one can succeed."""


class DecoderTimeoutError(StageTimeoutError):
    """A decoder passed its wall clock.

    Args:
        message: For the user.
        cpu_seconds: Processor time that it took until then; little of it says that it had to wait for others.
    """

    def __init__(self, message: str, cpu_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.cpu_seconds = cpu_seconds


class Decoder:
    """One decoder process, seen from the process that asked for it.

    Args:
        channel: The connection with it.
        file: What it decodes; named in errors.
        config: Its bounds, named in errors.
        on_death: Told why it ended before its answer.
    """

    def __init__(self, channel: Channel, file: Path, config: DecoderConfig, on_death: OnDeath) -> None:
        self._channel = channel
        self._name = file.name
        self._config = config
        self._on_death = on_death
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, request: object, file: int | None = None) -> None:
        """Send a request, and a copy of the file descriptor `file`.

        Raises:
            LostDecoderError: The decoder is gone.
        """
        try:
            self._channel.send(request, file)
        except OSError as error:
            raise LostDecoderError from error

    def receive(self, timeout_s: float) -> Message:
        """Wait for an answer.

        Raises:
            LostDecoderError: The decoder is gone, and not because of what it decoded.
            StageTimeoutError: No answer came in time; the decoder is killed.
            DecoderTimeoutError: The decoder ended itself for that reason.
            CancelledJobError: `close` was called meanwhile.
            MediaError: The decoder crashed.
            MediaLimitError: It passed a bound of memory or processor time.
            Exception: Whatever the decoder raised.
        """
        try:
            message = self._channel.receive(timeout_s)
        except TimeoutError:
            self._on_death("wall_time")
            self.close()
            raise StageTimeoutError(
                f"{self._name}: expected it decoded within {timeout_s:.0f} s, found no end"
            ) from None
        except EOFError:
            if self._is_closed:
                raise CancelledJobError(f"{self._name}: decoding was ended from outside.") from None
            raise LostDecoderError from None
        except InvalidReplyError as error:
            self._on_death("crash")
            self.close()
            raise MediaError(
                f"{self._name}: expected a file that can be decoded, found: its decoder answers as none ({error})."
            ) from error
        if isinstance(message.value, ErrorReply):
            raise message.value.error
        if isinstance(message.value, ProcessExit):
            raise self._reason(message.value.exit_code, message.value.cpu_seconds)
        return message

    def close(self) -> None:
        """Kill the process; from any thread."""
        self._is_closed = True
        self._channel.close()

    def _reason(self, exit_code: int, cpu_seconds: float) -> Exception:
        if exit_code in (0, -signal.SIGKILL):
            return LostDecoderError()
        if exit_code == OUT_OF_MEMORY:
            self._on_death("memory")
            allowed = self._config.max_memory_bytes >> 20
            return MediaLimitError(f"{self._name}: expected to be decoded in {allowed} MiB, found that it needs more.")
        if exit_code == MEMORY_BUDGET:
            self._on_death("memory")
            allowed = budget_bytes(self._config.max_shared_memory_bytes) >> 20
            return MediaLimitError(
                f"{self._name}: expected all files that are decoded at a time to need at most {allowed} MiB, "
                "found that it takes more than half of that."
            )
        if exit_code == -signal.SIGXCPU:
            self._on_death("cpu_time")
            return MediaLimitError(f"{self._name}: expected less work for its length, found no end of processor time.")
        if exit_code == -signal.SIGALRM:
            self._on_death("wall_time")
            return DecoderTimeoutError(f"{self._name}: expected it decoded in time, found no end", cpu_seconds)
        if exit_code < 0:
            self._on_death("crash")
            kind = signal.Signals(-exit_code).name
            return MediaError(
                f"{self._name}: expected a file that can be decoded, found: the decoder crashed ({kind})."
            )
        return LipwrightError(f"{self._name}: the decoder failed; its log says why.")


class Decoders:
    """Makes decoder processes, from a forkserver that is started when it is first needed. Thread-safe."""

    def __init__(self, config: DecoderConfig, on_death: OnDeath = lambda cause: None, group: str = "media") -> None:
        """`on_death` is told why a decoder ended before its answer; decoders of one group share a bound on memory."""
        self._config = config
        self._on_death = on_death
        self._forkserver = ForkserverClient(budget_bytes(config.max_shared_memory_bytes), group)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def warm(self) -> None:
        """Start the forkserver, so that it is there when the first file comes."""
        self._forkserver.warm()

    def open(
        self,
        run: Callable[[Channel], None],
        file: Path,
        policy: SandboxPolicy | None = None,
        cpu_seconds: float = _MAX_READER_CPU_S,
    ) -> Decoder:
        """Start a decoder that does `run` (picklable) with its end of the channel.

        Args:
            run: Runs in the decoder.
            file: The file that it decodes; named in errors.
            policy: What it may open; `file` alone if None.
            cpu_seconds: Processor time of all that it does.

        Raises:
            LostDecoderError: There is no forkserver to be had.
        """
        policy, config = policy or SandboxPolicy((file,)), self._config
        channel, theirs = Channel.pair()
        with theirs:
            if not self._forkserver.fork(theirs):
                raise LostDecoderError
        decoder = Decoder(channel, file, config, self._on_death)
        max_file_bytes = (
            config.max_file_bytes if policy.writable_dirs else min(config.max_file_bytes, _MAX_MESSAGE_BYTES)
        )
        task = Task(run, config.max_memory_bytes, max_file_bytes, cpu_seconds, policy if config.sandbox else None)
        decoder.ask(task, channel.reply_file)
        return decoder

    def run(
        self,
        work: Callable[[], T],
        *,
        file: Path,
        timeout_s: float,
        token: CancelToken | None = None,
        cpu_seconds: float | None = None,
        reads: Sequence[Path] = (),
        writes: Path | None = None,
    ) -> T:
        """Return what `work()`, done in a decoder process, returns: one of the kinds of `media.decoding.reply_codec`.

        Args:
            work: A module-level function, or a `partial` of one; done again if its decoder is lost.
            file: The file that it decodes; named in errors.
            timeout_s: Wall clock, a second try included.
            token: Cancels it.
            cpu_seconds: Processor time; a share of `timeout_s` if None.
            reads: What else it reads: files, or folders.
            writes: The folder that it writes in.

        Raises:
            StageTimeoutError: It took longer; a `DecoderTimeoutError` if it ended itself.
            CancelledJobError: `token` was cancelled.
            MediaError: The decoder crashed.
            MediaLimitError: It needs too much memory or processor time.
            ReplicaLostError: The decoder was killed from outside, twice.
            media.decoding.reply_codec.UnexpectedDecoderError: `work` raised what is neither of `errors` nor an OSError.
            Exception: Whatever else `work` raised.
        """
        bound = min(timeout_s * self._config.cpu_share, cpu_seconds or math.inf)
        deadline = time.monotonic() + timeout_s
        policy = SandboxPolicy((file, *reads), () if writes is None else (writes,))
        for _ in range(2):
            try:
                decoder = self.open(partial(run_and_reply, work, bound, deadline), file, policy, bound)
                with decoder, (token or CancelToken()).on_cancel(decoder.close):
                    done: T = decoder.receive(max(deadline - time.monotonic(), 0.0) + _GRACE_S).value
                    return done
            except LostDecoderError:
                continue
        raise decoder_lost_error(file)

    def close(self) -> None:
        """End the forkserver, and with it every decoder."""
        self._forkserver.close()


def decoder_lost_error(file: Path) -> ReplicaLostError:
    """The error of a file whose decoders were lost."""
    return ReplicaLostError(f"{file.name}: the decoder process was killed from outside, twice")
