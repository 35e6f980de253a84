"""Fork server for decoder processes; `lipwright.media.decoding.forkserver_client` starts it.

Starting an interpreter and importing FFmpeg takes a third of a second; forking a process that has done so takes
milliseconds. The fork server opens no media itself, has one thread, and does four things: it forks a decoder for each
socket it receives, reports on that socket how the decoder exited, kills a decoder whose peer has closed its socket, and
kills the largest decoder when all decoders of the machine exceed their memory budget. Closing the socket therefore
kills the decoder, and no decoder outlives the process that asked for it.

Each decoder has its own session, which is killed as a whole; its orphaned children are re-parented to the fork server
(PR_SET_CHILD_SUBREAPER) and killed too. When the fork server itself is killed, its decoders die with it
(PR_SET_PDEATHSIG), and its successor kills what they had started.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Final, NoReturn

from lipwright.errors import LipwrightError
from lipwright.media.decoding.channel import Channel
from lipwright.media.decoding.memory_budget import CHECK_S, MemoryBudget, release_freed_frames
from lipwright.media.decoding.reply_codec import ErrorReply, ProcessExit
from lipwright.media.decoding.sandbox import SandboxPolicy, confine, own_status

OUT_OF_MEMORY: Final = 77
"""Exit code of a decoder that ran out of memory."""
MEMORY_BUDGET: Final = 78
"""Exit code that the fork server reports for a decoder that exceeded the shared memory budget on its own."""
_NEAR_BOUND_BYTES: Final = 64 * 1024**2
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_LEAST_S: Final = 0.001  # a timer of 0 never fires
_KILL_AFTER_S: Final = 3  # SIGXCPU, which tells the reason, comes first
_COMMAND: Final = (
    b"lipwright.media.decoding.forkserver"  # in the command line of fork servers and of all that they fork
)
_FIRST_TO_GO: Final = "1000"  # proc(5), oom_score_adj: the kernel kills decoders first when memory runs out


@dataclass(frozen=True)
class Task:
    """The first message to a decoder: its work, after which it exits, and its limits. Without `policy`, no sandbox."""

    run: Callable[[Channel], None]
    max_memory_bytes: int
    max_file_bytes: int
    max_cpu_seconds: float
    policy: SandboxPolicy | None


def bound_cpu(seconds: float) -> None:
    """Kill this process (SIGXCPU) once it has used that much more CPU time; its total limit still applies."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def bound_wall(deadline: float) -> None:
    """Kill this process (SIGALRM) at that time of the monotonic clock; replace an earlier deadline."""
    signal.setitimer(signal.ITIMER_REAL, max(deadline - time.monotonic(), _LEAST_S))


def check_memory() -> None:
    """Raise MemoryError if this decoder came so close to its limit that an allocation failed, or soon will.

    FFmpeg treats a frame for which it cannot allocate memory as damaged, and continues.
    """
    bound, _ = resource.getrlimit(resource.RLIMIT_AS)
    peak = next(int(line.split()[1]) * 1024 for line in own_status().splitlines() if line.startswith("VmPeak:"))
    if bound != resource.RLIM_INFINITY and peak > bound - _NEAR_BOUND_BYTES:
        raise MemoryError


def run_and_reply(work: Callable[[], object], cpu_seconds: float, deadline: float, channel: Channel) -> None:
    """Send what `work()` returns, or the error that it raises.

    It may take `cpu_seconds`, and must be done by `deadline` on the monotonic clock, which all processes of a machine
    share.
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
    """Return the reply for `error`; the traceback of an unexpected error is printed to the log."""
    if not isinstance(error, LipwrightError | OSError):
        traceback.print_exception(error, file=sys.stderr)
    return ErrorReply.of(error)


class _Forkserver:
    def __init__(self, control: socket.socket, memory: MemoryBudget) -> None:
        self._control = control
        self._memory = memory
        self._exit_codes: dict[int, int] = {}  # of decoders that this process killed, where the reason matters
        self._decoders: dict[int, socket.socket] = {}  # process id -> a copy of its socket
        self._killed: set[int] = set()  # decoders that are still exiting
        self._deaths, wakeup = socket.socketpair()
        for end in (self._deaths, wakeup):
            end.setblocking(False)
        self._wakeup = wakeup
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup.fileno())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the process that started this one
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def serve(self) -> None:
        """Return when the peer closes the control socket, after all decoders have been killed."""
        try:
            self._serve()
        finally:
            for pid in self._decoders:
                _kill(pid)
            while self._decoders:
                self._reap(0)

    def _serve(self) -> None:
        while True:
            poll = select.poll()
            poll.register(self._control, select.POLLIN)
            poll.register(self._deaths, select.POLLIN)
            # A closed socket would end every poll at once until its decoder has exited, which can take long.
            pids = {end.fileno(): pid for pid, end in self._decoders.items() if pid not in self._killed}
            for number in pids:
                poll.register(number, 0)  # hang-ups only: messages are for the decoder
            for number, _ in poll.poll(1000 * CHECK_S if self._decoders else None):
                if number in pids:
                    self._killed.add(pids[number])
                    _kill(pids[number])
                elif number == self._deaths.fileno():
                    self._deaths.recv(4096)
                elif not self._fork():
                    return
            self._reap()
            self._share_memory()

    def _fork(self) -> bool:
        """Fork a decoder for the next request; False if the control socket is closed."""
        data, files, _, _ = socket.recv_fds(self._control, 1, 1)
        if not data:
            return False
        if not files:  # too many open files; the closed socket means that there is no decoder
            return True
        theirs = socket.socket(fileno=files[0])
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:  # too many processes; the closed socket means that there is no decoder
            theirs.close()
            return True
        if pid == 0:
            self._become_decoder(theirs, parent)
        self._decoders[pid] = theirs
        return True

    def _become_decoder(self, theirs: socket.socket, parent: int) -> NoReturn:
        exit_code = 1
        try:
            os.setsid()
            _die_with(parent)
            self._memory.join()
            signal.set_wakeup_fd(-1)
            for kind in (signal.SIGCHLD, signal.SIGINT):
                signal.signal(kind, signal.SIG_DFL)
            for end in (self._control, self._deaths, self._wakeup, *self._decoders.values()):
                end.close()
            _decode(Channel.of_decoder(theirs))
            exit_code = 0
        except MemoryError:
            exit_code = OUT_OF_MEMORY
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(exit_code)

    def _reap(self, options: int = os.WNOHANG) -> None:
        """Report dead decoders and kill their children; wait for one to die if `options` is 0."""
        with contextlib.suppress(ChildProcessError):  # there is none
            while (dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | options)) is not None:
                pid, options = dead.si_pid, os.WNOHANG
                if pid in self._decoders:
                    _kill(pid)  # its session; until it is waited for, the id cannot be reused
                    self._kill_left()
                _, status, used = os.wait4(pid, 0)
                if pid in self._decoders:
                    exit_code = self._exit_codes.pop(pid, os.waitstatus_to_exitcode(status))
                    self._tell(pid, ProcessExit(exit_code, used.ru_utime + used.ru_stime))

    def _tell(self, pid: int, ended: ProcessExit) -> None:
        self._killed.discard(pid)
        with self._decoders.pop(pid) as theirs, contextlib.suppress(OSError):
            theirs.setblocking(False)
            Channel.of_decoder(theirs).send(ended)

    def _share_memory(self) -> None:
        passed = self._memory.passed_by(self._decoders)
        if passed is None or passed[0] in self._exit_codes:
            return
        pid, num_bytes = passed
        if self._memory.is_too_much(num_bytes):
            self._exit_codes[pid] = MEMORY_BUDGET
        _kill(pid)

    def _kill_left(self) -> None:
        """Kill children that are not decoders: those of dead decoders."""
        with contextlib.suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children") as file:
            for pid in map(int, file.read().split()):
                if pid not in self._decoders:
                    _kill(pid)


def _decode(channel: Channel) -> None:
    with contextlib.suppress(EOFError, ConnectionError):  # the peer has closed the socket
        task, channel.reply_file = channel.receive(timeout_s=60.0)
        _limit(resource.RLIMIT_AS, task.max_memory_bytes)
        _limit(resource.RLIMIT_FSIZE, task.max_file_bytes)
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_CPU, int(task.max_cpu_seconds) + _KILL_AFTER_S)
        if task.policy is not None:
            confine(task.policy)
        task.run(channel)


def _limit(kind: int, value: int) -> None:
    """Lower a resource limit permanently: soft and hard."""
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _kill(pid: int) -> None:
    """Kill a decoder and its session; harmless if they have exited."""
    for kill in (os.killpg, os.kill):  # it may not have a session yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(_FIRST_TO_GO)


def kill_orphans(decoders: Iterable[int]) -> None:
    """Kill those of `decoders` (process ids) whose fork server was killed, so that they have another parent.

    Decoders with a seccomp filter cannot start processes; this is for systems without it.
    """
    for pid in decoders:
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has exited, or belongs to another user
            if not _is_of_forkserver(_parent_of(pid)):
                os.kill(pid, signal.SIGKILL)


def _parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])  # proc(5): the name may contain anything


def _is_of_forkserver(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return _COMMAND in file.read()
    except FileNotFoundError:
        return False


def main(control: int, max_shared_bytes: int, group: str, modules: Sequence[str]) -> None:
    """Serve the control socket with that descriptor until its peer closes it; decoders share imported `modules`."""
    for module in ("lipwright.media.audio", "lipwright.media.reader", *modules):
        import_module(module)

    release_freed_frames()
    gc.freeze()  # a garbage collection in a decoder would copy every page of the imported modules
    memory = MemoryBudget(max_shared_bytes, group)
    kill_orphans(memory.decoders())
    _Forkserver(socket.socket(fileno=control), memory).serve()
