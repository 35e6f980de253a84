"""Spans at a collector, and nothing without one; the W3C headers of traces."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lipwright.errors import MediaError
from lipwright.telemetry import tracing
from lipwright.telemetry.log_context import CallContext, call_context, current_trace
from lipwright.telemetry.trace_context import TraceContext
from lipwright.telemetry.tracing import is_exporting, span, start_tracing, trace_of_id
from tests.otlp_collector import Collector, paths
from tests.ports import quiet_port

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
CALLER = TraceContext(TRACE, SPAN, True, "a=1")


def test_span_is_below_that_of_the_caller(collector: Collector) -> None:
    with call_context(CallContext("4f00", 3, trace=CALLER)), span("outer", frames=9) as attributes:
        attributes["outcome"] = "ok"
        inner = current_trace()
        with pytest.raises(MediaError), span("inner"):
            raise MediaError("a.wav is broken.")
    spans = collector.wait("outer")
    assert paths(spans, CALLER.span_id) == ["outer", "outer/inner"]
    by_name = {each.name: each for each in spans}
    assert by_name["outer"].attributes == {"job": "4f00", "segment": 3, "frames": 9, "outcome": "ok"}
    assert (by_name["inner"].is_error, by_name["inner"].attributes["error.type"]) == (True, MediaError.code)
    assert inner == TraceContext(CALLER.trace_id, by_name["outer"].span_id, True, "a=1"), "what is sent on"
    assert {each.trace_id for each in spans} == {CALLER.trace_id}


def test_span_of_unsampled_or_no_trace_is_not_exported(collector: Collector) -> None:
    with call_context(CallContext("4f00", trace=CALLER._replace(is_sampled=False))), span("unsampled"):
        assert current_trace() is not None and not current_trace().is_sampled  # type: ignore[union-attr]
    with span("without a trace"):
        assert current_trace() is None
    with span("entry", starts_trace=True):
        pass
    assert [each.name for each in collector.wait("entry")] == ["entry"]


def _start(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Start tracing with these variables of OpenTelemetry, without their prefix, and no collector."""
    for name, value in {"EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{quiet_port()}", **variables}.items():
        monkeypatch.setenv(f"OTEL_{name}", value)
    monkeypatch.setattr(tracing, "_exporter", None)
    start_tracing("test")


@pytest.mark.parametrize("ratio", ["0", "1"])
def test_trace_of_id_is_sampled_as_configured(ratio: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _start(monkeypatch, TRACES_SAMPLER="parentbased_traceidratio", TRACES_SAMPLER_ARG=ratio)
    assert trace_of_id(CALLER.trace_id) == TraceContext(CALLER.trace_id, is_sampled=ratio == "1")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(("EXPORTER_OTLP_ENDPOINT", ""), ("SDK_DISABLED", "true")),
        *(("TRACES_EXPORTER", "none"), ("BSP_MAX_QUEUE_SIZE", "1")),
    ],
)
def test_start_tracing_disabled_or_misconfigured_is_off(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _start(monkeypatch, **{variable: value})
    assert not is_exporting()
    with call_context(CallContext("4f00", trace=CALLER)), span("nothing"):
        assert current_trace() == CALLER, "passed on as it came"


def test_span_without_collector_imports_no_opentelemetry(repo_root: Path) -> None:
    code = (
        "import sys; from lipwright.telemetry import tracing; tracing.start_tracing('x')\n"
        "with tracing.span('a', starts_trace=True): pass\n"
        "import lipwright.jobs.job_trace, lipwright.api.tracing, lipwright.api.live.chunk_spans\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    environment = {"PYTHONPATH": str(repo_root), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=200)
    assert done.stdout.splitlines() == ["[]"], done.stderr


def test_span_with_dead_collector_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    _start(monkeypatch, BSP_MAX_QUEUE_SIZE="600", EXPORTER_OTLP_TIMEOUT="1")
    started = time.monotonic()
    for _ in range(3000):
        with span("lost", starts_trace=True):
            pass
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    "traceparent",
    [
        *("", "nonsense", f"00-{TRACE}-{SPAN}", f"00-{TRACE.upper()}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01"),
        *(f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{SPAN}-01-more"),
        *(f"00-{TRACE}-{SPAN}-0x", f"00-{TRACE}-{SPAN}-01\n"),
    ],
)
def test_parse_malformed_traceparent_is_ignored(traceparent: str) -> None:
    assert TraceContext.parse(traceparent, "a=1") is None


@pytest.mark.parametrize(
    ("tracestate", "kept"),
    [("rojo=00f067aa0ba902b7,a@b=t61", True), ("a=1" + ",b=2" * 200, False), ("a", False), ("a=ü", False), ("", True)],
)
def test_accept_passes_on_valid_tracestate(tracestate: str, kept: bool) -> None:
    headers = [(b"traceparent", PARENT.encode()), (b"tracestate", tracestate.encode("latin-1"))]
    found = TraceContext.accept(headers)
    assert found is not None
    expected = {"tracestate": tracestate} if kept and tracestate else {}
    assert found.headers() == {"traceparent": PARENT, **expected}


def test_accept_joins_tracestates_and_refuses_two_parents() -> None:
    assert TraceContext.parse(f"cc-{TRACE}-{SPAN}-03-more") == TraceContext(TRACE, SPAN, True), "a later version"
    headers = [(b"traceparent", PARENT[:-1].encode() + b"0"), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    assert TraceContext.accept(headers) == TraceContext(TRACE, SPAN, False, "a=1,b=2")
    assert TraceContext.accept([*headers, headers[0]]) is None


def test_of_id_job_id_is_the_trace_id() -> None:
    assert TraceContext.of_id(TRACE) == TraceContext(TRACE)
    other = TraceContext.of_id("../a name").trace_id
    assert len(other) == 32 and other == TraceContext.of_id("../a name").trace_id
