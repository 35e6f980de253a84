"""The Landlock wrapper, in processes of its own: a restriction cannot be undone."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from media.decoding import landlock

pytestmark = pytest.mark.skipif(not landlock.is_available(), reason="needs Landlock")
_PR_SET_NO_NEW_PRIVS = 38
READ = landlock.READ_FILE | landlock.READ_DIR


def _restricted(rules: list[tuple[str, int]], attempt: Callable[[], object]) -> int:
    """0 if `attempt` succeeds in a process with these rules, else its errno."""

    def work() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        landlock.restrict(rules)
        attempt()

    return _exit_code(work)


def _exit_code(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            work()
            code = 0
        except OSError as error:
            code = error.errno or 254
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_restrict_allows_only_the_rules_paths(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
    a, b = tmp_path / "a", tmp_path / "b"
    denied = 13  # EACCES
    assert _restricted([(str(a), READ)], (a / "file").read_bytes) == 0
    assert _restricted([(str(a), READ)], (b / "file").read_bytes) == denied
    assert _restricted([(str(a), READ)], lambda: (a / "file").write_bytes(b"y")) == denied
    assert _restricted([(str(a), READ)], lambda: (a / "new").touch()) == denied
    assert _restricted([(str(a), READ)], lambda: os.listdir(a)) == 0
    assert _restricted([(str(b / "file"), READ)], (b / "file").read_bytes) == 0, "READ_DIR is ignored for a file"
    assert _restricted([(str(tmp_path / "gone"), READ), (str(a), READ)], (a / "file").read_bytes) == 0
    writes = READ | landlock.WRITE_FILE | landlock.MAKE_REG | landlock.REMOVE_FILE | landlock.TRUNCATE
    assert _restricted([(str(a), writes)], lambda: (a / "new").write_bytes(b"x")) == 0
    assert _restricted([(str(a), writes)], lambda: os.replace(a / "new", a / "file")) == 0
    assert _restricted([(str(a), writes)], (a / "file").unlink) == 0


def test_restrict_denies_signals_and_connections() -> None:
    denied = {1, 13}  # EPERM, EACCES
    if landlock.abi_version() >= 6:
        assert _restricted([], lambda: os.kill(os.getppid(), 0)) in denied
    if landlock.abi_version() >= 4:
        with socket.create_server(("127.0.0.1", 0)) as server:
            assert _restricted([], lambda: socket.create_connection(server.getsockname())) in denied


@pytest.mark.skipif("NoNewPrivs:\t1" in Path("/proc/self/status").read_text(), reason="it is set already")
def test_restrict_without_no_new_privs_fails() -> None:
    def as_user() -> None:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        landlock.restrict([])

    assert _exit_code(as_user) == 1  # EPERM
