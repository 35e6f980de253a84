"""The W3C headers of traces: accepted, ignored when malformed, and passed on."""

from __future__ import annotations

import pytest

from telemetry.trace_context import TraceContext

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "nonsense",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-0x",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_parse_malformed_traceparent_is_ignored(traceparent: str) -> None:
    assert TraceContext.parse(traceparent, "a=1") is None


def test_parse_later_version_is_read_as_far_as_known() -> None:
    assert TraceContext.parse(f"cc-{TRACE}-{SPAN}-03-more") == TraceContext(TRACE, SPAN, True)


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
    headers = [(b"traceparent", PARENT[:-1].encode() + b"0"), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    assert TraceContext.accept(headers) == TraceContext(TRACE, SPAN, False, "a=1,b=2")
    assert TraceContext.accept([*headers, headers[0]]) is None


def test_of_id_job_id_is_the_trace_id() -> None:
    assert TraceContext.of_id(TRACE) == TraceContext(TRACE)
    other = TraceContext.of_id("../a name").trace_id
    assert len(other) == 32 and other == TraceContext.of_id("../a name").trace_id
