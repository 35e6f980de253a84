"""What test decoders do; module-level, so that another process can find it by name."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from lipwright.config import MediaLimits
from lipwright.errors import MediaError
from lipwright.media.decoding.channel import Channel
from lipwright.media.decoding.sandbox import own_status
from lipwright.media.probe import probe_video
from lipwright.media.reader import FrameReader


def hoard(num_bytes: int) -> int:
    return int(np.ones(num_bytes, np.uint8).sum())


def spin() -> None:
    while True:
        pass


def sleep(seconds: float, started: Path | None = None) -> str:
    if started is not None:
        started.write_text(str(os.getpid()))
    time.sleep(seconds)
    return "woke"


def refuse() -> None:
    raise MediaError("clip.mp4: expected this, found that.")


def fail() -> None:
    raise OddError(1, 2)


class OddError(Exception):
    """Does not survive pickling."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def write_much(path: Path, num_bytes: int) -> None:
    (path.parent / "left over").write_bytes(b"x")
    path.write_bytes(bytes(num_bytes))


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def decode_all(path: Path) -> int:
    info = probe_video(path, MediaLimits())
    with FrameReader(path, info, 0) as reader:
        return len(list(reader.read(range(info.num_frames))))


def in_status(name: str) -> str:
    return next(line.split(":")[1].strip() for line in own_status().splitlines() if line.startswith(f"{name}:"))


def attacks(victim: Path) -> str:
    """Names of the attacks on other processes, on the file `victim` and on memory that succeed."""
    libc, other = ctypes.CDLL(None, use_errno=True), os.getppid()
    null = os.open("/dev/null", os.O_RDONLY)

    def call(name: str, *arguments: object) -> int:
        result = int(getattr(libc, name)(*arguments))
        if result < 0:
            raise OSError(ctypes.get_errno(), name)
        return result

    def queue_signal() -> None:
        signal_info = (ctypes.c_int * 32)(0, 0, -1)  # si_code SI_QUEUE
        call("syscall", _RT_TGSIGQUEUEINFO[os.uname().machine], other, other, 0, signal_info)

    def own_socket() -> None:
        sockets = [number for number in range(64) if _is_socket(number)]
        fcntl.ioctl(sockets[0], _FIOSETOWN, struct.pack("i", other))

    attempts: dict[str, Callable[[], object]] = {
        "rt_tgsigqueueinfo": queue_signal,
        "F_SETOWN": lambda: fcntl.fcntl(null, fcntl.F_SETOWN, other),
        "F_SETSIG": lambda: fcntl.fcntl(null, _F_SETSIG, signal.SIGKILL),
        "FIOSETOWN": own_socket,
        "chmod": lambda: os.chmod(victim, 0o666),
        "fchmodat": lambda: os.chmod(victim.name, 0o666, dir_fd=os.open(victim.parent, os.O_PATH)),
        "chown": lambda: os.chown(victim, 1, 1),
        "utime": lambda: os.utime(victim, (0, 0)),
        "setxattr": lambda: os.setxattr(victim, "user.lipwright", b"x"),
        "memfd_create": lambda: os.close(os.memfd_create("x")),
        "shmget": lambda: call("shmctl", call("shmget", 0, 4096, 0o1600), 0, None),
        "msgget": lambda: call("msgctl", call("msgget", 0, 0o1600), 0, None),
        "semget": lambda: call("semctl", call("semget", 0, 1, 0o1600), 0, 0),
        "mq_open": lambda: call("mq_open", b"/lipwright-test", os.O_CREAT | os.O_RDWR, 0o600, None),
        "PR_SET_NAME": lambda: call("prctl", _PR_SET_NAME, b"innocent", 0, 0, 0),
        "pipe": os.pipe,
    }
    return ", ".join(name for name, attempt in attempts.items() if _succeeds(attempt))


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, ValueError):  # setrlimit raises ValueError
        return False
    return True


def _is_socket(number: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False


_RT_TGSIGQUEUEINFO = {"x86_64": 297, "aarch64": 240}
_FIOSETOWN = 0x8901  # asm-generic/sockios.h
_F_SETSIG = 10  # asm-generic/fcntl.h
_PR_SET_NAME = 15


def tries() -> str:
    """What a decoder that was taken over would try, and that succeeds."""
    other = os.getppid()
    attempts: dict[str, Callable[[], object]] = {
        "fork": lambda: os.fork() or os._exit(3),
        "exec": lambda: subprocess.run(["/bin/true"], check=True),
        "connect": lambda: socket.socket().connect(("127.0.0.1", 9)),
        "local socket": lambda: socket.socketpair(),
        "signal": lambda: os.kill(other, 0),
        "own session": os.setsid,
        "other's memory": lambda: os.open(f"/proc/{other}/mem", os.O_RDONLY),
        "other's environment": lambda: Path(f"/proc/{other}/environ").read_bytes(),
        "own environment": lambda: Path("/proc/self/environ").read_bytes(),
        "passwords": lambda: Path("/etc/passwd").read_bytes(),
        "write": lambda: Path("/tmp/lipwright_decoder_was_here").write_text("x"),
        "memory limit": partial(_raise_limit, resource.RLIMIT_AS),
        "CPU limit": partial(_raise_limit, resource.RLIMIT_CPU),
        "file size limit": partial(_raise_limit, resource.RLIMIT_FSIZE),
        "core limit": partial(_raise_limit, resource.RLIMIT_CORE),
    }
    return ", ".join(name for name, attempt in attempts.items() if _succeeds(attempt))


def _raise_limit(kind: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (hard + 1, hard + 1))


def leave_children(pid_file: Path) -> str:
    """Two processes stay behind: one of this session, one that left it."""
    pids = []
    for leaves in (False, True):
        if (pid := os.fork()) == 0:
            if leaves:
                os.setsid()
            time.sleep(120)
            os._exit(0)
        pids.append(str(pid))
    pid_file.write_text(" ".join(pids))
    return "left"


class Trap:
    """Runs what it likes where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self._path,)


def stay_with_children(pid_file: Path, channel: Channel) -> None:
    leave_children(pid_file)
    time.sleep(120)


def babble(channel: Channel) -> None:
    socket.socket(fileno=os.dup(channel._socket.fileno())).send(b"i" + b"\x80\x04N.")
    time.sleep(60)


def hold(num_bytes: int, seconds: float) -> int:
    held = np.ones(num_bytes, np.uint8)
    time.sleep(seconds)
    return int(held[0])


def hold_shared(num_bytes: int, seconds: float) -> int:
    with mmap.mmap(-1, num_bytes, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS) as held:
        for start in range(0, num_bytes, mmap.PAGESIZE):
            held[start] = 1
        time.sleep(seconds)
        return held[0]


def hold_and_tell(num_bytes: int, channel: Channel) -> None:
    held = np.ones(num_bytes, np.uint8)
    channel.send("held")
    time.sleep(20)
    del held


def sleeping_probe(file: Path, limits: MediaLimits) -> None:
    time.sleep(20)


def spinning_probe(file: Path, limits: MediaLimits) -> None:
    spin()


def not_imported(*modules: str) -> str:
    return " ".join(module for module in modules if module not in sys.modules)
