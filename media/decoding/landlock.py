"""Landlock (landlock(7)): a process gives up access to all files but those it names. Linux 5.13 and newer.

Constants are from linux/landlock.h; system call numbers are the same on all architectures that CPython supports.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterable
from typing import Final

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
            _allow(ruleset, path, rights & known)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
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
