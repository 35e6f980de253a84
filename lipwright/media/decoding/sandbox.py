"""Confines decoder processes: they can compute, read the input file and write the result, and nothing else.

Every layer that the kernel supports is applied: no new privileges (prctl(2)), no capabilities (capabilities(7)),
Landlock for files, and a seccomp filter with an allow-list of system calls. None of them can be undone.

Constants are from linux/landlock.h; system call numbers are the same on all architectures that CPython supports.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import sys
import termios
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

EXECUTE: Final = 1 << 0
WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
REMOVE_FILE: Final = 1 << 5
MAKE_REG: Final = 1 << 8
TRUNCATE: Final = 1 << 14
"""Truncation of files; always allowed before ABI 3."""
_IOCTL_DEV: Final = 1 << 15
_OF_FILES: Final = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | _IOCTL_DEV
"""Rights that a rule for a file, rather than a folder, may have."""
_FILE_SYSTEM_RIGHTS: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All rights that the kernel knows, by the ABI that introduced the last of them."""
_TCP: Final = 0b11  # bind, connect; from ABI 4
_SCOPES: Final = 0b11  # abstract Unix sockets, signals; from ABI 6
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG: Final = 1
_RULE_PATH_BENEATH: Final = 1
_O_PATH: Final = getattr(os, "O_PATH", 0)


class _RulesetAttribute(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttribute(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi_version() -> int:
    """Return the Landlock ABI of this kernel; OSError if it has none (ENOSYS), or it is disabled (EOPNOTSUPP)."""
    return _call(_CREATE_RULESET, None, 0, _VERSION_FLAG)


def is_available() -> bool:
    """Whether this kernel has Landlock and it is enabled."""
    try:
        return abi_version() > 0
    except OSError:
        return False


def restrict(rules: Iterable[tuple[str, int]]) -> None:
    """Restrict the calling thread, and what it starts, to paths with rights. Cannot be undone.

    TCP connections, and signals and abstract Unix sockets to other processes, are denied where the kernel supports it
    (ABI 4 and 6). Rights on a folder include everything below it. Rights that do not apply to a file, or that the
    kernel does not know, are ignored, and so are paths that do not exist.

    Raises:
        OSError: The kernel has no Landlock, or `no_new_privs` is not set (EPERM).
    """
    abi = abi_version()
    known = max(rights for since, rights in _FILE_SYSTEM_RIGHTS.items() if since <= abi)
    attribute = _RulesetAttribute(known, _TCP if abi >= 4 else 0, _SCOPES if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _call(_CREATE_RULESET, ctypes.byref(attribute), size, 0)
    try:
        for path, rights in rules:
            _allow_folder(ruleset, path, rights & known)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow_folder(ruleset: int, path: str, rights: int) -> None:
    try:
        number = os.open(path, _O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # it stays denied
    try:
        if not stat.S_ISDIR(os.fstat(number).st_mode):
            rights &= _OF_FILES
        rule = _PathBeneathAttribute(rights, number)
        _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(number)


def _call(number: int, *arguments: object) -> int:
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    result = syscall(
        ctypes.c_long(number), *(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    )
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


try:
    import pyseccomp
except (ImportError, OSError, RuntimeError):  # the package, or libseccomp.so.2
    pyseccomp = None

_PR_SET_NO_NEW_PRIVS: Final = 38  # linux/prctl.h
_CAPABILITY_VERSION: Final = 0x20080522  # linux/capability.h, _LINUX_CAPABILITY_VERSION_3
_FOREIGN_FILES: Final = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_MAX_STATUS_BYTES: Final = 1 << 16
_CLONE_THREAD: Final = 0x00010000  # linux/sched.h
_SYSTEM_FOLDERS: Final = ("/usr", "/lib", "/lib64", "/dev/null", "/dev/urandom")
_READ: Final = READ_FILE | READ_DIR
_WRITE: Final = _READ | WRITE_FILE | TRUNCATE | MAKE_REG | REMOVE_FILE
_ALLOWED: Final = (
    # memory
    *("brk", "mmap", "mmap2", "munmap", "mremap", "mprotect", "madvise", "membarrier", "msync"),
    # files by path; Landlock decides which
    *(
        "open",
        "openat",
        "stat",
        "stat64",
        "lstat",
        "lstat64",
        "newfstatat",
        "fstatat64",
        "statx",
        "access",
        "faccessat",
    ),
    *("faccessat2", "readlink", "readlinkat", "getcwd", "rename", "renameat", "renameat2", "unlink", "unlinkat"),
    # open files
    *("read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev", "pwritev2", "lseek"),
    *("_llseek", "fstat", "fstat64", "fstatfs", "fstatfs64", "getdents", "getdents64", "ftruncate", "ftruncate64"),
    *("fallocate", "fsync", "fdatasync", "fadvise64", "fadvise64_64", "dup", "dup2", "dup3", "close", "close_range"),
    # the socket to the process that asked
    *("sendmsg", "sendto", "recvmsg", "recvfrom", "shutdown", "getsockopt", "getsockname", "poll", "ppoll", "select"),
    *("_newselect", "pselect6", "pselect6_time64", "ppoll_time64"),
    # threads; `clone` is checked below
    *("exit", "exit_group", "futex", "futex_time64", "set_robust_list", "get_robust_list", "rseq", "sched_yield"),
    *("sched_getaffinity", "sched_getparam", "sched_getscheduler", "sched_get_priority_max", "sched_get_priority_min"),
    # signals to itself; `kill` and `tgkill` are checked below
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigsuspend", "rt_sigtimedwait"),
    *("sigaltstack", "sigreturn", "restart_syscall", "pause"),
    # clocks and timers
    *("clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64", "clock_nanosleep"),
    *("clock_nanosleep_time64", "nanosleep", "gettimeofday", "time", "times", "setitimer", "getitimer", "alarm"),
    # what the process is, and its limits, which it can only lower
    *("getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups"),
    *("getpgid", "getpgrp", "getsid", "getrusage", "getrlimit", "ugetrlimit", "setrlimit", "sysinfo", "uname"),
    *("getcpu", "getrandom"),
)
"""System calls of CPython, NumPy and FFmpeg while they decode. All others fail with ENOSYS.

Among others, these are not on the list: calls that start or address other processes, change modes, owners, times or
attributes of files, make sockets, pipes, memory files or System V and POSIX message objects, and `prctl`, with which a
decoder could change the name by which its memory is counted."""
_FCNTL_COMMANDS: Final = (
    *(fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL, fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC),
)
"""Not F_SETOWN and F_SETSIG, which send signals to other processes."""
_IOCTL_COMMANDS: Final = (termios.TCGETS, termios.FIOCLEX, termios.FIONCLEX) if sys.platform == "linux" else ()
"""`isatty` and inheritance; not FIOSETOWN."""


@dataclass(frozen=True)
class SandboxPolicy:
    """What a decoder may read (folders with all below them), and the folders in which it may change files."""

    readable: tuple[Path, ...] = ()
    writable_dirs: tuple[Path, ...] = ()


def confine(policy: SandboxPolicy) -> None:
    """Apply all layers to this process, which must have a single thread."""
    _status_file()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _drop_capabilities(libc, policy)
    # Layers that the kernel lacks are skipped; `lipwright doctor` reports them.
    if is_available():
        restrict(_rules(policy))
    if pyseccomp is not None:
        with contextlib.suppress(OSError):
            _filter_system_calls()


def own_status() -> str:
    """Returns the content of /proc/self/status (proc(5)), also in a confined process."""
    return os.pread(_status_file(), _MAX_STATUS_BYTES, 0).decode()


@cache
def _status_file() -> int:
    """Opens /proc/self/status, before Landlock forbids it.

    A rule for /proc/self would not do: when memory is short, the kernel drops entries of /proc, and the rule with them.
    """
    return os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)


def missing_layers() -> str:
    """Return the layers that are not active in this process, a decoder without files; empty if all are."""
    status = own_status()
    missing = []
    if "NoNewPrivs:\t1" not in status:
        missing.append("no new privileges")
    with contextlib.suppress(OSError), open("/etc/passwd", "rb"):
        missing.append("Landlock (files)")
    if "Seccomp:\t2" not in status:
        missing.append("seccomp (calls)")
    return ", ".join(missing)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _drop_capabilities(libc: ctypes.CDLL, policy: SandboxPolicy) -> None:
    """Drop all capabilities; root keeps those that open other users' files if its own files are such.

    Without capabilities, hard limits cannot be raised again.
    """
    header, sets = _CapabilityHeader(_CAPABILITY_VERSION, 0), (_CapabilitySets * 2)()
    if libc.capget(ctypes.byref(header), sets) != 0:
        return
    kept = sets[0].permitted & _FOREIGN_FILES
    sets[0], sets[1] = _CapabilitySets(0, kept, 0), _CapabilitySets(0, 0, 0)
    libc.capset(ctypes.byref(header), sets)
    if kept and not _needs_capabilities(policy):
        kept = 0
    sets[0] = _CapabilitySets(kept, kept, 0)
    libc.capset(ctypes.byref(header), sets)


def _needs_capabilities(policy: SandboxPolicy) -> bool:
    """Whether one of the paths exists but cannot be accessed by this process, which has no capabilities."""
    modes = dict.fromkeys((Path(sys.prefix), Path(sys.base_prefix), *policy.readable), os.R_OK)
    modes |= dict.fromkeys(policy.writable_dirs, os.W_OK | os.X_OK)
    for path, mode in modes.items():
        try:
            os.stat(path)
        except PermissionError:
            return True
        except OSError:
            continue  # it does not exist
        if not os.access(path, mode, effective_ids=True):
            return True
    return False


def _rules(policy: SandboxPolicy) -> Iterator[tuple[str, int]]:
    for path in _existing_paths((*_SYSTEM_FOLDERS, sys.prefix, sys.base_prefix, *map(str, policy.readable))):
        yield path, _READ
    for path in _existing_paths(map(str, policy.writable_dirs)):
        yield path, _WRITE


def _existing_paths(paths: Iterable[str]) -> Iterator[str]:
    return (path for path in dict.fromkeys(paths) if os.path.exists(path))


def _filter_system_calls() -> None:
    # ENOSYS, not EPERM: the C library then falls back to an older call, such as clone for clone3.
    calls = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.ENOSYS))
    for name in _ALLOWED:
        _allow(calls, name)
    for command in _FCNTL_COMMANDS:
        for name in ("fcntl", "fcntl64"):
            _allow(calls, name, pyseccomp.Arg(1, pyseccomp.EQ, command))
    for command in _IOCTL_COMMANDS:
        _allow(calls, "ioctl", pyseccomp.Arg(1, pyseccomp.EQ, command))
    _allow(calls, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD))  # threads only
    for name in ("kill", "tgkill"):
        _allow(calls, name, pyseccomp.Arg(0, pyseccomp.EQ, os.getpid()))
    _allow(calls, "prlimit64", pyseccomp.Arg(0, pyseccomp.EQ, 0))
    calls.load()


def _allow(calls: Any, name: str, *arguments: Any) -> None:
    with contextlib.suppress(OSError):  # a call that this architecture or this libseccomp does not know
        calls.add_rule(pyseccomp.ALLOW, name, *arguments)
