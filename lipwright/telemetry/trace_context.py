"""W3C Trace Context: which trace a request belongs to (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

_TRACEPARENT: Final = re.compile(
    "(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_TRACE_ID: Final = re.compile("(?!0{32})[0-9a-f]{32}")
_TRACESTATE: Final = re.compile("[a-z0-9][a-z0-9_*/@-]*=[ -~]*(,[ \t]*[a-z0-9][a-z0-9_*/@-]*=[ -~]*)*")
_MAX_STATE_CHARS: Final = 512  # the specification requires that this many are passed on
_SAMPLED: Final = 1


class TraceContext(NamedTuple):
    """A position in a trace.

    Attributes:
        trace_id: The trace, 32 hexadecimal digits.
        span_id: The span below which new spans belong, 16 hexadecimal digits; empty at the root of the trace.
        is_sampled: Whether spans of this trace are exported.
        state: What tracing systems of callers pass along; empty if nothing.
    """

    trace_id: str
    span_id: str = ""
    is_sampled: bool = True
    state: str = ""

    @classmethod
    def parse(cls, traceparent: str, tracestate: str = "") -> TraceContext | None:
        """Return what the two headers say; None if `traceparent` is malformed, which starts a new trace."""
        found = _TRACEPARENT.fullmatch(traceparent)
        if found is None or (found[1] == "00" and found[5] is not None):
            return None
        is_valid = len(tracestate) <= _MAX_STATE_CHARS and _TRACESTATE.fullmatch(tracestate)
        return cls(found[2], found[3], bool(int(found[4], 16) & _SAMPLED), tracestate if is_valid else "")

    @classmethod
    def accept(cls, headers: Iterable[tuple[bytes, bytes]]) -> TraceContext | None:
        """Return the trace of a request; None if it carries none or several."""
        values: dict[bytes, list[str]] = {b"traceparent": [], b"tracestate": []}
        for name, value in headers:
            if name in values:
                values[name].append(value.decode("latin-1").strip())
        parents = values[b"traceparent"]
        return cls.parse(parents[0], ",".join(values[b"tracestate"])) if len(parents) == 1 else None

    @classmethod
    def of_id(cls, name: str) -> TraceContext:
        """Return the root of the trace of a job or an avatar that no request brought: its id is the trace's."""
        return cls(name if _TRACE_ID.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()[:32])

    def headers(self) -> dict[str, str]:
        """Return the headers of a request that continues the trace; none at its root."""
        if not self.span_id:
            return {}
        parent = {"traceparent": f"00-{self.trace_id}-{self.span_id}-{_SAMPLED if self.is_sampled else 0:02x}"}
        return parent | ({"tracestate": self.state} if self.state else {})
