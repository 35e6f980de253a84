"""What a decoder may still do once it has its task: little more than compute, read its file and write its result.

Each layer is used where the kernel has it: no new privileges (prctl(2)), no capabilities of root but those that open
files (capabilities(7)), Landlock for files, and a seccomp filter for the calls that no decoder makes. All of them are
for good: a process cannot take them off again.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

try:
    import landlock
except ImportError:  # not Linux
    landlock = None
try:
    import pyseccomp
except (ImportError, OSError, RuntimeError):  # the package, or the library that it speaks to
    pyseccomp = None

_PR_SET_NO_NEW_PRIVS: Final = 38  # linux/prctl.h
_CAPABILITY_VERSION: Final = 0x20080522  # linux/capability.h, _LINUX_CAPABILITY_VERSION_3
_FILE_CAPABILITIES: Final = 1 << 1 | 1 << 2 | 1 << 3  # DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER: root's folders of others
_CLONE_THREAD: Final = 0x00010000  # linux/sched.h
_PR_SET_PDEATHSIG: Final = 1
_SYSTEM_FOLDERS: Final = ("/usr", "/lib", "/lib64", "/proc/self", "/dev/null", "/dev/urandom")
_DENIED: Final = (
    # other programs and processes
    *("execve", "execveat", "fork", "vfork", "setsid", "setpgid", "ptrace", "process_vm_readv", "process_vm_writev"),
    *("pidfd_open", "pidfd_getfd", "pidfd_send_signal", "kcmp", "process_madvise", "rt_sigqueueinfo"),
    # the network, and other services of this machine
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4"),
    # parts of the kernel that decoders do without
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "keyctl"),
    *("add_key", "request_key", "unshare", "setns", "mount", "umount2", "move_mount", "open_tree", "fsopen", "chroot"),
    *("pivot_root", "open_by_handle_at", "name_to_handle_at", "init_module", "finit_module", "delete_module"),
    *("kexec_load", "swapon", "swapoff", "reboot", "personality", "quotactl", "acct", "syslog", "vhangup"),
)


@dataclass(frozen=True)
class SandboxPolicy:
    """The files of one decoder.

    Attributes:
        readable: Files, and folders with all that is in them.
        writable_dirs: Folders in which it makes, replaces and removes files.
    """

    readable: tuple[Path, ...] = ()
    writable_dirs: tuple[Path, ...] = ()


def confine(policy: SandboxPolicy) -> None:
    """Take from this process, which has one thread, all that a decoder does not need."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _drop_capabilities(libc)
    # A layer that this kernel does not have is left out: `lipwright doctor` says so.
    if landlock is not None:
        with contextlib.suppress(landlock.LandlockError, OSError):
            _confine_files(policy)
    if pyseccomp is not None:
        with contextlib.suppress(OSError):
            _filter_calls()


def missing_layers() -> str:
    """What this process, a decoder without files, could still do for want of a layer; empty when all are in force."""
    status = Path("/proc/self/status").read_text()
    lacking = []
    if "NoNewPrivs:\t1" not in status:
        lacking.append("no new privileges")
    if os.access("/etc/passwd", os.R_OK) and _can_open("/etc/passwd"):
        lacking.append("Landlock (files)")
    if "Seccomp:\t2" not in status:
        lacking.append("seccomp (calls)")
    return ", ".join(lacking)


def _can_open(path: str) -> bool:
    try:
        with open(path, "rb"):
            return True
    except OSError:
        return False


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Root's rights beyond those on files go; with them, hard limits cannot be raised again."""
    header, sets = _CapabilityHeader(_CAPABILITY_VERSION, 0), (_CapabilitySets * 2)()
    if libc.capget(ctypes.byref(header), sets) != 0:
        return
    kept = sets[0].permitted & _FILE_CAPABILITIES
    sets[0], sets[1] = _CapabilitySets(kept, kept, 0), _CapabilitySets(0, 0, 0)
    libc.capset(ctypes.byref(header), sets)


def _confine_files(policy: SandboxPolicy) -> None:
    access = landlock.FSAccess
    on_files = access.READ_FILE | access.WRITE_FILE | access.TRUNCATE
    changes = on_files | access.READ_DIR | access.MAKE_REG | access.REMOVE_FILE
    rules = landlock.Ruleset()
    for path in _existing((*_SYSTEM_FOLDERS, sys.prefix, sys.base_prefix, *map(str, policy.readable))):
        rules.allow(path, rules=access.READ_FILE | access.READ_DIR if os.path.isdir(path) else access.READ_FILE)
    for path in _existing(map(str, policy.writable_dirs)):
        rules.allow(path, rules=changes & rules.restrict_rules)
    rules.apply()


def _existing(paths: Any) -> Iterator[str]:
    return (path for path in dict.fromkeys(paths) if os.path.exists(path))


def _filter_calls() -> None:
    calls = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    refuse, own = pyseccomp.ERRNO(errno.EPERM), os.getpid()
    for name in _DENIED:
        _refuse(calls, refuse, name)
    # Threads are made, processes are not; glibc falls back to clone(2), whose flags a filter can see.
    _refuse(calls, refuse, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _CLONE_THREAD, 0))
    _refuse(calls, pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    _refuse(calls, refuse, "prctl", pyseccomp.Arg(0, pyseccomp.EQ, _PR_SET_PDEATHSIG))
    for name in ("kill", "tgkill"):
        _refuse(calls, refuse, name, pyseccomp.Arg(0, pyseccomp.NE, own))
    _refuse(calls, refuse, "tkill", pyseccomp.Arg(0, pyseccomp.NE, own))
    _refuse(calls, refuse, "prlimit64", pyseccomp.Arg(0, pyseccomp.NE, 0))
    calls.load()


def _refuse(calls: Any, action: int, name: str, *arguments: Any) -> None:
    with contextlib.suppress(OSError):  # a call that this architecture or this libseccomp does not know
        calls.add_rule(action, name, *arguments)
