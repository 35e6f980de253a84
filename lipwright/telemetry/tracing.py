"""Spans, exported by OTLP/HTTP if the standard variables of OpenTelemetry name a collector.

The position in the trace is part of `CallContext`, so it travels with the calls between deployments. Without a
collector, `span` does nothing, OpenTelemetry is not imported, and `traceparent` is passed on as the caller sent it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final

from lipwright.errors import LipwrightError
from lipwright.telemetry.log_context import call_context, context_or_empty
from lipwright.telemetry.trace_context import TraceContext

if TYPE_CHECKING:
    from lipwright.telemetry.span_exporter import SpanExporter

logger = logging.getLogger(__name__)

Attributes = dict[str, str | int | float]

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

_exporter: SpanExporter | None = None


def start_tracing(instance: str) -> None:
    """Export the spans of this process, named `instance`, if a collector is configured. Call it in a constructor."""
    global _exporter
    values = os.environ.get
    is_disabled = values("OTEL_SDK_DISABLED", "").lower() == "true" or values("OTEL_TRACES_EXPORTER") == "none"
    if is_exporting() or is_disabled or not any(map(values, _ENDPOINTS)):
        return
    try:
        from lipwright.telemetry.span_exporter import SpanExporter  # imports OpenTelemetry

        _exporter = SpanExporter(instance)
    except ImportError as error:
        logger.warning("no traces are exported: %s; install the extra: pip install -e '.[otel]'", error)
    except ValueError as error:
        logger.warning("no traces are exported: a variable OTEL_... is invalid: %s", error)


def is_exporting() -> bool:
    """Return whether this process exports spans."""
    return _exporter is not None


@contextmanager
def span(name: str, starts_trace: bool = False, **attributes: str | int | float) -> Iterator[Attributes]:
    """Record a span of the block, below the current one; yield its attributes, to which the block may add some.

    Nothing is recorded in a trace that is not sampled, and without a trace, unless the span may start one.
    """
    context = context_or_empty()
    is_recorded = starts_trace if context.trace is None else context.trace.is_sampled
    if _exporter is None or not is_recorded:
        yield attributes
        return
    opened, trace = _exporter.start(name, context.trace, is_entry=starts_trace)
    if context.job_id:
        attributes["job"] = context.job_id
    if context.segment is not None:
        attributes["segment"] = context.segment
    try:
        with call_context(context._replace(trace=trace)):
            yield attributes
    except (Exception, asyncio.CancelledError) as error:
        if not isinstance(error, asyncio.CancelledError):
            attributes |= {"error.type": _error_type(error), "error.message": str(error)}
        raise
    finally:
        _exporter.end(opened, attributes)


def record_span(
    name: str,
    parent: TraceContext,
    start: datetime,
    end: datetime,
    attributes: Mapping[str, str | int | float],
    span_id: str = "",
) -> None:
    """Record a span whose times are known; `span_id` is its id if others already refer to it."""
    if _exporter is not None and parent.is_sampled:
        opened, _ = _exporter.start(name, parent, start, span_id)
        _exporter.end(opened, dict(attributes), end)


def trace_of_id(name: str) -> TraceContext:
    """Return the root of the trace of something that no request brought; see `TraceContext.of_id`."""
    root = TraceContext.of_id(name)
    return root if _exporter is None else root._replace(is_sampled=_exporter.samples(root.trace_id))


def _error_type(error: Exception) -> str:
    return error.code if isinstance(error, LipwrightError) else type(error).__qualname__
