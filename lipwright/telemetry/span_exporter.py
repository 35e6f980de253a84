"""Exports spans with OpenTelemetry's SDK, which its standard variables (`OTEL_...`) configure.

Spans wait in a bounded queue for a thread that exports them. If the collector is slow or down, the queue drops spans;
nothing else waits for it, not even the end of the process.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from datetime import datetime
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_BSP_SCHEDULE_DELAY
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from lipwright.telemetry.trace_context import TraceContext
from lipwright.telemetry.tracing import Attributes

_DELAY_MS: Final = 1000  # a process that ends loses the spans of this time; OpenTelemetry's default is 5 s
_MAX_MESSAGE_CHARS: Final = 500


class SpanExporter:
    """The tracer of this process, whose name in the spans is `instance`."""

    def __init__(self, instance: str) -> None:
        name = OTELResourceDetector().detect().attributes.get(SERVICE_NAME, "lipwright")
        resource = Resource.create({SERVICE_NAME: name, SERVICE_INSTANCE_ID: instance})
        self._provider = TracerProvider(resource=resource, id_generator=_GivenIds(), shutdown_on_exit=False)
        delay_ms = None if OTEL_BSP_SCHEDULE_DELAY in os.environ else _DELAY_MS
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=delay_ms))
        self._tracer = self._provider.get_tracer("lipwright")

    def start(
        self,
        name: str,
        parent: TraceContext | None,
        start: datetime | None = None,
        span_id: str = "",
        is_entry: bool = False,
    ) -> tuple[Span, TraceContext]:
        """Start a span; return it with its position in the trace.

        Args:
            name: Its name.
            parent: The span above it, or the root of its trace, which is sampled; None for a new trace.
            start: When it started; None: now.
            span_id: Its id, if others already refer to it.
            is_entry: Whether it is the request of a caller.
        """
        trace_id, parent_id, _, state = parent or TraceContext("")
        numbers = [int(digits or "0", 16) for digits in (trace_id, parent_id, span_id)]
        flags, states = TraceFlags(TraceFlags.SAMPLED), TraceState.from_header([state])
        context = SpanContext(numbers[0], numbers[1], is_remote=True, trace_flags=flags, trace_state=states)
        token = _given_ids.set((numbers[0], numbers[2]))
        span = self._tracer.start_span(
            name,
            set_span_in_context(NonRecordingSpan(context)),
            SpanKind.SERVER if is_entry else SpanKind.INTERNAL,
            start_time=None if start is None else _nanoseconds(start),
        )
        _given_ids.reset(token)
        made = span.get_span_context()
        return span, TraceContext(f"{made.trace_id:032x}", f"{made.span_id:016x}", made.trace_flags.sampled, state)

    def samples(self, trace_id: str) -> bool:
        """Return whether spans of a new trace are exported."""
        decision = self._provider.sampler.should_sample(None, int(trace_id, 16), "").decision
        return decision is Decision.RECORD_AND_SAMPLE

    def end(self, span: Span, attributes: Attributes, end: datetime | None = None) -> None:
        """End a span; an attribute `error.type` says that it failed, and `name` replaces its name."""
        if "error.type" in attributes:
            message = str(attributes.pop("error.message", ""))[:_MAX_MESSAGE_CHARS]
            span.set_status(StatusCode.ERROR, message)
        if name := attributes.pop("name", ""):
            span.update_name(str(name))
        span.set_attributes(attributes)
        span.end(None if end is None else _nanoseconds(end))


_given_ids: ContextVar[tuple[int, int]] = ContextVar("lipwright_given_ids", default=(0, 0))
"""Trace and span id of the span that starts next; 0: random ones."""


class _GivenIds(RandomIdGenerator):
    def generate_trace_id(self) -> int:
        return _given_ids.get()[0] or super().generate_trace_id()

    def generate_span_id(self) -> int:
        return _given_ids.get()[1] or super().generate_span_id()

    def is_trace_id_random(self) -> bool:
        return False  # that of a job without a caller's trace is the id of the job


def _nanoseconds(time: datetime) -> int:
    return int(time.timestamp() * 1e6) * 1000
