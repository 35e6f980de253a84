"""The trace of a job: that of the request that created it, or one with the id of the job.

The id of a job's span follows from the id of the job, so that spans of a resumed job belong to the same span.
"""

from __future__ import annotations

import hashlib

from lipwright.jobs.model.base import utc_now
from lipwright.jobs.model.record import JobStatus, JobSummary
from lipwright.telemetry.log_context import CallContext, current_trace
from lipwright.telemetry.trace_context import TraceContext
from lipwright.telemetry.tracing import is_exporting, record_span, trace_of_id


def trace_headers() -> dict[str, str]:
    """Return the W3C headers that pass the current trace on, to a webhook or to a job that is created (its `trace`)."""
    trace = current_trace()
    return {} if trace is None else trace.headers()


def context_of(job: JobSummary) -> CallContext:
    """Return the context of what is done for a job."""
    parent = _parent(job)
    is_forwarded = parent.span_id and not is_exporting()
    return CallContext(job.id, trace=parent if is_forwarded else parent._replace(span_id=_span_id(job)))


def record_queueing(job: JobSummary) -> None:
    """Record the time from the acceptance of a job to its start, which is now."""
    if (trace := context_of(job).trace) is not None:
        record_span("queue", trace, job.created_at, utc_now(), {"job": job.id})


def record_job(job: JobSummary) -> None:
    """Record the span of a finished job, from its acceptance on."""
    error = {"error.type": job.error.code, "error.message": job.error.message} if job.error is not None else {}
    failed = error if job.status is JobStatus.FAILED else {}
    about = {"job": job.id, "status": job.status.value, "engine": job.engine, **failed}
    record_span("job", _parent(job), job.created_at, job.finished_at or utc_now(), about, _span_id(job))


def _parent(job: JobSummary) -> TraceContext:
    sent = TraceContext.parse(job.trace.get("traceparent", ""), job.trace.get("tracestate", ""))
    return sent or trace_of_id(job.id)


def _span_id(job: JobSummary) -> str:
    return hashlib.sha256(f"span of {job.id}".encode()).hexdigest()[:16]
