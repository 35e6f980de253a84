"""The process that decoders are forked from; `media.decoding.decoder.Decoders` starts it.

Starting an interpreter and importing FFmpeg takes a third of a second; forking a process that has done so takes
milliseconds. This one opens no media itself, has one thread, and does three things: it forks a decoder for each
socket that it is sent, says on that socket how the decoder ended, and kills a decoder whose other end is closed.
So closing a socket is how a decoder is killed, and none outlives the process that asked for it.
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
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from media.decoding.channel import Channel
from media.decoding.frame_memory import return_freed_frames

OUT_OF_MEMORY: Final = 77
"""Exit code of a decoder that was refused memory."""
_NEAR_BOUND_BYTES: Final = 64 * 1024**2
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_FIRST_TO_GO: Final = "1000"  # proc(5), oom_score_adj: where memory runs out, a decoder goes before all others


@dataclass(frozen=True)
class Task:
    """The first message to a decoder.

    Attributes:
        run: What it does; it ends when this returns.
        max_memory_bytes: Its address space.
        max_file_bytes: Length of any file that it writes.
    """

    run: Callable[[Channel], None]
    max_memory_bytes: int
    max_file_bytes: int


@dataclass(frozen=True)
class Ended:
    """The last message of a decoder's channel, sent by the nursery.

    Attributes:
        exit_code: As of `os.waitstatus_to_exitcode`: minus the signal that killed it.
    """

    exit_code: int


def bound_cpu(seconds: float) -> None:
    """Kill this process (SIGXCPU) when it uses that much more processor time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + seconds) + 1)


def check_memory() -> None:
    """Raise MemoryError if this decoder came so near its bound that it was refused memory, or soon will be.

    FFmpeg takes a frame that it finds no memory for as one that is damaged, and goes on.
    """
    bound, _ = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmPeak:"))
    if bound != resource.RLIM_INFINITY and peak > bound - _NEAR_BOUND_BYTES:
        raise MemoryError


class _Nursery:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._decoders: dict[int, socket.socket] = {}  # process -> a copy of its end
        self._deaths, wakeup = socket.socketpair()
        for end in (self._deaths, wakeup):
            end.setblocking(False)
        self._wakeup = wakeup
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup.fileno())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one

    def serve(self) -> None:
        """Return when the other end of the control socket is closed; the decoders end with this process."""
        while True:
            poll = select.poll()
            poll.register(self._control, select.POLLIN)
            poll.register(self._deaths, select.POLLIN)
            pids = {end.fileno(): pid for pid, end in self._decoders.items()}
            for number in pids:
                poll.register(number, 0)  # hang-ups only: what is sent is for the decoder
            for number, _ in poll.poll():
                if number in pids:
                    os.kill(pids[number], signal.SIGKILL)
                elif number == self._deaths.fileno():
                    self._deaths.recv(4096)
                elif not self._fork():
                    return
            self._reap()

    def _fork(self) -> bool:
        """False when the control socket has ended."""
        data, files, _, _ = socket.recv_fds(self._control, 1, 1)
        if not data:
            return False
        if not files:  # too many open files; the closed end says that there is no decoder
            return True
        theirs = socket.socket(fileno=files[0])
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:  # too many processes; the closed end says that there is no decoder
            theirs.close()
            return True
        if pid == 0:
            self._become_decoder(theirs, parent)
        self._decoders[pid] = theirs
        return True

    def _become_decoder(self, theirs: socket.socket, parent: int) -> NoReturn:
        exit_code = 1
        try:
            _die_with(parent)
            signal.set_wakeup_fd(-1)
            for kind in (signal.SIGCHLD, signal.SIGINT):
                signal.signal(kind, signal.SIG_DFL)
            for end in (self._control, self._deaths, self._wakeup, *self._decoders.values()):
                end.close()
            _decode(Channel(theirs))
            exit_code = 0
        except MemoryError:
            exit_code = OUT_OF_MEMORY
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(exit_code)

    def _reap(self) -> None:
        while self._decoders:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with self._decoders.pop(pid) as theirs, contextlib.suppress(OSError):
                theirs.setblocking(False)
                Channel(theirs).send(Ended(os.waitstatus_to_exitcode(status)))


def _decode(channel: Channel) -> None:
    with contextlib.suppress(EOFError, ConnectionError):  # the other end was closed
        task: Task = channel.receive(timeout_s=60.0).value
        _limit(resource.RLIMIT_AS, task.max_memory_bytes)
        _limit(resource.RLIMIT_FSIZE, task.max_file_bytes)
        _limit(resource.RLIMIT_CORE, 0)
        task.run(channel)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(_FIRST_TO_GO)


def main(control: int) -> None:
    """Serve the socket of that number until its other end is closed."""
    # What decoders use is imported here, once.
    import media.audio
    import media.joiner
    import media.reader  # noqa: F401

    return_freed_frames()
    gc.freeze()  # a collection in a decoder would copy every page of what was imported
    _Nursery(socket.socket(fileno=control)).serve()
