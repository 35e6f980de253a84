"""Which job, segment and trace a call and its log lines belong to: held in a context variable, sent along with calls.

A replica serves several requests at once, each in its own task. What `call_context` sets is visible to that request, to
the tasks that it starts, and in `asyncio.to_thread`.

Records have the fields `job`, `segment` and `trace_id`: Ray takes `job_id` for its own jobs and strips it from Serve's
logs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from lipwright.errors import BusyError, LipwrightError, StandbyError
from lipwright.telemetry.trace_context import TraceContext

_SERVE_LOGGER = "ray.serve"
_SERVE_ROUTERS = ("router", "request_router")
"""Modules of Serve that choose a replica for a call. They warn of slow and lost replicas; if a call fails because of
them, the caller logs that itself, and retries."""
_PACKAGES = (
    "deployments",
    "graph",
    "lipwright",
    "models",
)


class CallContext(NamedTuple):
    """The job that a call works for.

    Attributes:
        job_id: The job, or the avatar that is analysed; empty for a request that has none.
        segment: Number of the segment, if the call is about one.
        attempt: Number of the attempt, from 1; retries run exclusively (`deployments.runtime.replica.CallGate`).
        trace: Position in the trace; `deployments.runtime.calls` sets it for each attempt.
    """

    job_id: str
    segment: int | None = None
    attempt: int = 1
    trace: TraceContext | None = None


_context: ContextVar[CallContext | None] = ContextVar("lipwright_call", default=None)


def current_context() -> CallContext:
    """Return the context of the current call."""
    context = _context.get()
    assert context is not None, "a stage was called outside `call_context`"
    return context


def current_trace() -> TraceContext | None:
    """Return the position of the current call in its trace; None if it has no trace."""
    return context_or_empty().trace


def context_or_empty() -> CallContext:
    """Return the context of the current call, or one of no job."""
    return _context.get() or CallContext("")


@contextmanager
def call_context(context: CallContext | None) -> Iterator[None]:
    """Add a context to what is logged inside the block, and by tasks and threads that it starts; None adds nothing."""
    token = _context.set(context)
    try:
        yield
    finally:
        _context.reset(token)


def configure_logging() -> None:
    """Send this replica's log records to Serve's handlers, marked with the current work. Call it in a constructor.

    Serve configures one logger, "ray.serve", for its files and the terminal, and replaces its handlers when the logging
    settings change. So every package of ours forwards its records to that logger, and a filter of the logger adds the
    fields. Serve's JSON files contain all fields of a record; its terminal lines contain none, so their formatter is
    wrapped. Calling this again changes nothing.
    """
    for package in _PACKAGES:
        logger = logging.getLogger(package)
        if not any(isinstance(handler, _ForwardToServe) for handler in logger.handlers):
            logger.addHandler(_ForwardToServe())
            logger.setLevel(logging.INFO)
    logger = logging.getLogger(_SERVE_LOGGER)
    if not any(isinstance(known, _ContextFilter) for known in logger.filters):
        logger.addFilter(_ContextFilter())
    for handler in logger.handlers:
        is_terminal = isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
        if is_terminal and not isinstance(handler.formatter, _ContextFormatter):
            handler.setFormatter(_ContextFormatter(handler.formatter or logging.Formatter()))


class _ForwardToServe(logging.Handler):
    """Passes records on to Serve's logger, whatever handlers it has at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = logging.getLogger(_SERVE_LOGGER)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)


class _ContextFilter(logging.Filter):
    """Adds the current call to every record, and reduces errors that are part of normal operation to one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        context = _context.get()
        if context is not None:
            fields = {"job": context.job_id or None, "segment": context.segment}
            fields["trace_id"] = None if context.trace is None else context.trace.trace_id
            vars(record).update({name: value for name, value in fields.items() if value is not None})
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, LipwrightError) and error.code != LipwrightError.code:
            # Serve logs whatever a request raises as an error with a traceback, also "not found" and "queue full".
            record.msg, record.args = "%s %s: %s", (record.getMessage(), error.code, error)
            record.exc_info = record.exc_text = None
            is_routine = error.status_code < 500 or isinstance(error, BusyError | StandbyError)
            _set_level(record, logging.INFO if is_routine else logging.WARNING)
        elif record.name == _SERVE_LOGGER and record.module in _SERVE_ROUTERS and record.levelno == logging.WARNING:
            _set_level(record, logging.INFO)
        return True


def _set_level(record: logging.LogRecord, level: int) -> None:
    record.levelno, record.levelname = level, logging.getLevelName(level)


class _ContextFormatter(logging.Formatter):
    """Appends the job, the segment and the trace to the line of another formatter."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        line = self._inner.format(record)
        fields: dict[str, Any] = {name: getattr(record, name, None) for name in ("job", "segment", "trace_id")}
        return " ".join([line, *(f"{name}={value}" for name, value in fields.items() if value is not None)])
