"""Decodes uploaded files in separate processes, so that a malicious file can only harm its own decoder.

A decoder that crashes, needs too much memory or CPU time, or hangs is killed, which raises an error that names its
file. `lipwright.media.decoding.sandbox` limits what code that has taken over a decoder can do.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal, Self, TypeVar

from lipwright.config import DecoderConfig
from lipwright.errors import CancelledJobError, MediaError, MediaLimitError, ReplicaLostError, StageTimeoutError
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.channel import Channel, Message
from lipwright.media.decoding.forkserver import MEMORY_BUDGET, OUT_OF_MEMORY, Task, run_and_reply
from lipwright.media.decoding.forkserver_client import ForkserverClient
from lipwright.media.decoding.memory_budget import budget_bytes
from lipwright.media.decoding.reply_codec import ErrorReply, InvalidReplyError, ProcessExit, UnexpectedDecoderError
from lipwright.media.decoding.sandbox import SandboxPolicy

T = TypeVar("T")

_MAX_READER_CPU_S: Final = 3600.0
"""Total CPU time of a decoder that serves many requests; another one takes over from it."""
_GRACE_S: Final = 2.0
"""A decoder that is late kills itself, which reports its CPU time; one that cannot is killed this much later."""
_MAX_MESSAGE_BYTES: Final = 256 * 1024**2
"""Size of memory files of a decoder that writes no other files: a batch of frames."""


DecoderDeath = Literal["memory", "cpu_time", "wall_time", "crash"]
"""Why a decoder process died before it replied."""
OnDeath = Callable[[DecoderDeath], None]


class LostDecoderError(Exception):
    """A decoder was killed from outside: the same request to another one can succeed."""


class DecoderTimeoutError(StageTimeoutError):
    """A decoder exceeded its wall-clock timeout.

    A small `cpu_seconds`, the CPU time it used until then, means that it had to wait for other processes.
    """

    def __init__(self, message: str, cpu_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.cpu_seconds = cpu_seconds


class Decoder:
    """Handle of one decoder process; errors name the file that it decodes, and its limits.

    `on_death` is called with the reason if it dies before it replies.
    """

    def __init__(self, channel: Channel, file: Path, config: DecoderConfig, on_death: OnDeath) -> None:
        self._channel = channel
        self._name = file.name
        self._config = config
        self._on_death = on_death
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def ask(self, request: object, file: int | None = None) -> None:
        """Send a request, and a copy of the file descriptor `file`; LostDecoderError if the decoder has exited."""
        try:
            self._channel.send(request, file)
        except OSError as error:
            raise LostDecoderError from error

    def receive(self, timeout_s: float) -> Message:
        """Wait for a reply.

        Raises:
            LostDecoderError: The decoder was killed from outside.
            StageTimeoutError: No reply arrived in time; the decoder has been killed.
            DecoderTimeoutError: The decoder killed itself for that reason.
            CancelledJobError: `close` was called meanwhile.
            MediaError: The decoder crashed.
            MediaLimitError: It exceeded its memory or CPU time.
            UnexpectedDecoderError: It failed for another reason, which its log has.
            Exception: Whatever the decoder raised.
        """
        try:
            message = self._channel.receive(timeout_s)
        except TimeoutError:
            self._on_death("wall_time")
            self.close()
            raise StageTimeoutError(f"{self._name}: decoding timed out after {timeout_s:.0f} s") from None
        except EOFError:
            if self._is_closed:
                raise CancelledJobError(f"{self._name}: decoding was cancelled.") from None
            raise LostDecoderError from None
        except InvalidReplyError as error:
            self._on_death("crash")
            self.close()
            raise MediaError(
                f"{self._name}: the file cannot be decoded: its decoder sent an invalid reply ({error})."
            ) from error
        if isinstance(message.value, ErrorReply):
            raise message.value.error
        if isinstance(message.value, ProcessExit):
            raise self._reason(message.value.exit_code, message.value.cpu_seconds)
        return message

    def close(self) -> None:
        """Kill the process; callable from any thread."""
        self._is_closed = True
        self._channel.close()

    def _reason(self, exit_code: int, cpu_seconds: float) -> Exception:
        if exit_code in (0, -signal.SIGKILL):
            return LostDecoderError()
        if exit_code == OUT_OF_MEMORY:
            self._on_death("memory")
            allowed = self._config.max_memory_bytes >> 20
            return MediaLimitError(f"{self._name}: decoding it needs more than {allowed} MiB of memory.")
        if exit_code == MEMORY_BUDGET:
            self._on_death("memory")
            allowed = budget_bytes(self._config.max_shared_memory_bytes) >> 20
            return MediaLimitError(
                f"{self._name}: decoding it needs more than half of the {allowed} MiB that all decoders share."
            )
        if exit_code == -signal.SIGXCPU:
            self._on_death("cpu_time")
            return MediaLimitError(f"{self._name}: decoding it needs too much CPU time for its length.")
        if exit_code == -signal.SIGALRM:
            self._on_death("wall_time")
            return DecoderTimeoutError(f"{self._name}: decoding timed out", cpu_seconds)
        if exit_code < 0:
            self._on_death("crash")
            kind = signal.Signals(-exit_code).name
            return MediaError(f"{self._name}: the file cannot be decoded: the decoder crashed ({kind}).")
        return UnexpectedDecoderError(f"{self._name}: the decoder failed; see its log for the cause.")


class Decoders:
    """Starts decoder processes, from a fork server that is started on first use. Thread-safe."""

    def __init__(
        self,
        config: DecoderConfig,
        on_death: OnDeath = lambda cause: None,
        group: str = "media",
        niceness: int = 0,
        modules: Sequence[str] = (),
    ) -> None:
        """`on_death` is called if a decoder dies before it replies; decoders of one group share a memory budget.

        `niceness` lowers their priority below that of this process, as that of a process that answers requests.
        `modules`, such as those of the work for `run`, are imported once for all decoders; they must not start threads.
        """
        self._config = config
        self._on_death = on_death
        self._forkserver = ForkserverClient(budget_bytes(config.max_shared_memory_bytes), group, niceness, modules)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def warm(self) -> None:
        """Start the fork server, so that the first file does not have to wait for it."""
        self._forkserver.warm()

    def open(
        self,
        run: Callable[[Channel], None],
        file: Path,
        policy: SandboxPolicy | None = None,
        cpu_seconds: float = _MAX_READER_CPU_S,
    ) -> Decoder:
        """Start a decoder that calls `run` (picklable) with its end of the channel.

        It may use the files of `policy`, by default only `file`, which errors name, and `cpu_seconds` of CPU time.

        Raises:
            LostDecoderError: The fork server could not be started.
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
        """Run `work()` in a decoder process and return its result, of a type that `reply_codec` knows.

        Args:
            work: A module-level function, or a `partial` of one; called again if its decoder is lost.
            file: The file that it decodes, named in errors.
            timeout_s: Wall-clock timeout, including a second attempt.
            token: Cancels the work.
            cpu_seconds: CPU time limit; by default a share of `timeout_s`.
            reads: Other files or folders that it reads.
            writes: The folder that it writes to.

        Raises:
            StageTimeoutError: It took longer; `DecoderTimeoutError` if the decoder killed itself.
            CancelledJobError: `token` was cancelled.
            MediaError: The decoder crashed.
            MediaLimitError: It needs too much memory or CPU time.
            ReplicaLostError: The decoder was killed from outside, twice.
            UnexpectedDecoderError: The decoder failed, or `work` raised what is neither in `errors` nor an OSError.
            Exception: What `work` raised.
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
        """Stop the fork server and all its decoders."""
        self._forkserver.close()


def decoder_lost_error(file: Path) -> ReplicaLostError:
    """Return the error for a file whose decoders were lost."""
    return ReplicaLostError(f"{file.name}: the decoder process was killed from outside, twice")
