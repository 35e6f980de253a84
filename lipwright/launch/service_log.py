"""The log file of a local service, and what of it the terminal shows."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

LOG_FORMAT: Final = "%(asctime)s %(message)s"
_MAX_BYTES: Final = 16 * 1024**2  # of the file, and of the one before it
_RAY_LOGGERS: Final = ("ray", "ray.serve")
# What Ray's processes print (https://docs.ray.io/en/latest/ray-observability/user-guides/configure-logging.html).
_OUTPUT: Final = ("worker-*.out", "worker-*.err", "raylet.err", "gcs_server.err")
_ACTOR: Final = ":actor_name:"
_PERIOD_S: Final = 1.0
_MAX_READ: Final = 1024**2  # bytes
_STOP_S: Final = 5.0
# Serve's line: level, time, deployment, replica id, request id if any, "--", message.
_SERVE_WARNING: Final = re.compile(r"(WARNING|ERROR|CRITICAL) \S+ \S+ (\S+) .*?-- (.*)")


@dataclass(frozen=True)
class Terminal:
    """What a command shows of the service that it starts.

    Attributes:
        step: Called with one line for each step of the start.
        warn: Called with each warning of a replica.
        is_verbose: Print the log on standard error, too.
    """

    step: Callable[[str], None]
    warn: Callable[[str], None]
    is_verbose: bool = False


SILENT: Final = Terminal(step=lambda line: None, warn=lambda line: None)


class ServiceLog:
    """Collects the lines of Ray and of all replicas in one file."""

    def __init__(self, path: Path, terminal: Terminal) -> None:
        self.path, self._terminal = path, terminal
        self._handlers: list[logging.Handler] = [_LogFile(path)]
        if terminal.is_verbose:
            self._handlers.append(logging.StreamHandler())
        for handler in self._handlers:
            handler.setFormatter(logging.Formatter(LOG_FORMAT))

    def take_over_ray(self) -> None:
        """Send the records of Ray's own loggers in this process here. Call it again after an import has set them up."""
        for name in _RAY_LOGGERS:
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = list(self._handlers), False
            logger.setLevel(logging.INFO)

    def write(self, source: str, line: str) -> None:
        """Take a line that a process of Ray printed; `source` is the name of its actor, or of its file."""
        record = logging.makeLogRecord({"msg": f"({source}) {line}"})
        for handler in self._handlers:
            handler.handle(record)
        if source.startswith("ServeReplica:") and (found := _SERVE_WARNING.match(line)):
            level, deployment, message = found.groups()
            self._terminal.warn(f"{level} {deployment.rpartition('_')[2]}: {message}")

    def close(self) -> None:
        """Close the file; Ray's loggers are silent from then on."""
        for name in _RAY_LOGGERS:
            logging.getLogger(name).handlers = [logging.NullHandler()]
        for handler in self._handlers:
            handler.close()


class _LogFile(RotatingFileHandler):
    """Opened with the first record. A full disk costs lines and nothing else."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=_MAX_BYTES, backupCount=1, encoding="utf-8", delay=True)

    def handleError(self, record: logging.LogRecord) -> None:
        """Drop the record."""


@contextmanager
def open_service_log(path: Path, terminal: Terminal) -> Iterator[ServiceLog]:
    """Append to the log of a service for the block."""
    log = ServiceLog(path, terminal)
    try:
        yield log
    finally:
        log.close()


@contextmanager
def follow_output(folder: Path, log: ServiceLog) -> Iterator[None]:
    """Write what Ray's processes print into files of `folder` to the log during the block."""
    output, stop = _Output(folder), threading.Event()

    def follow() -> None:
        is_last = False
        while not is_last:
            is_last = stop.wait(_PERIOD_S)
            for source, line in output.new_lines(is_last):
                log.write(source, line)

    thread = threading.Thread(target=follow, name="ray-output", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_STOP_S)


class _Output:
    """Reads each line of Ray's files once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}  # bytes
        self._sources: dict[Path, str] = {}

    def new_lines(self, is_last: bool) -> Iterator[tuple[str, str]]:
        """Yield actor or file, and line. A line without an end is read when it has one, or when this is the last."""
        for path in (path for pattern in _OUTPUT for path in self._folder.glob(pattern)):
            for line in self._new_text(path, is_last).splitlines():
                if line.startswith(_ACTOR):
                    self._sources[path] = line.removeprefix(_ACTOR)
                elif not line.startswith(":"):  # Ray's other marks
                    yield self._sources.get(path, path.name), line

    def _new_text(self, path: Path, is_last: bool) -> str:
        begin = self._read.get(path, 0)
        try:
            if path.stat().st_size == begin:
                return ""
            with path.open("rb") as file:
                file.seek(begin)
                content = file.read(_MAX_READ)
        except OSError:  # Ray has moved it
            return ""
        end = content.rfind(b"\n") + 1
        if is_last or (end == 0 and len(content) == _MAX_READ):
            end = len(content)
        self._read[path] = begin + end
        return content[:end].decode(errors="replace")
