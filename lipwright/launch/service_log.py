"""The log file of a local service, and what of it the terminal shows."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

_MAX_BYTES: Final = 16 * 1024**2  # of the file, and of the one before it
# `ray.init` removes the handlers of "ray", so "ray._private" has its own.
_RAY_LOGGERS: Final = ("ray", "ray._private", "ray.serve")
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
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    def take_over_ray(self) -> None:
        """Send the records of Ray's own loggers in this process here. Call it again after an import has set them up."""
        for name in _RAY_LOGGERS:
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = list(self._handlers), False
            logger.setLevel(logging.INFO)

    def write(self, data: Mapping[str, Any]) -> None:
        """Take lines that a process of Ray printed; see `ray_internals.worker_output`."""
        source = str(data.get("actor_name") or data.get("task_name") or "")
        process = f"{source} pid={data.get('pid')}" if source else str(data.get("pid"))
        for line in data.get("lines", ()):
            record = logging.makeLogRecord({"msg": f"({process}) {line}"})
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
