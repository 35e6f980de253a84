"""Spans of a live session, each of which covers the chunks of some seconds: one per chunk would be ten per second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from lipwright.jobs.model.base import utc_now
from lipwright.telemetry.log_context import call_context, context_or_empty, current_trace
from lipwright.telemetry.tracing import record_span

_MAX_S: Final = 30.0


class ChunkSpans:
    """Records a span below the current one for consecutive chunks of one kind, which is its name."""

    def __init__(self) -> None:
        self._trace = current_trace()
        self._kind, self._start = "", utc_now()
        self._counts: Counter[str] = Counter()

    @contextmanager
    def record(self) -> Iterator[None]:
        """Record the chunks that the block adds. Calls for single chunks get no span."""
        with call_context(context_or_empty()._replace(trace=self._trace and self._trace._replace(is_sampled=False))):
            try:
                yield
            finally:
                self._end()

    def add(self, kind: str, num_frames: int, is_late: bool) -> None:
        """Count a chunk that was sent; `is_late`: idle frames were shown in its place."""
        if kind != self._kind or (utc_now() - self._start).total_seconds() > _MAX_S:
            self._end()
            self._kind = kind
        self._counts.update(chunks=1, frames=num_frames, late_chunks=int(is_late))

    def _end(self) -> None:
        now = utc_now()
        if self._trace is not None and self._counts:
            record_span(self._kind, self._trace, self._start, now, self._counts)
        self._start = now
        self._counts.clear()
