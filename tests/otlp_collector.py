"""A collector of spans on loopback that reads OTLP/HTTP with OpenTelemetry's own messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.graph.receiver import Receiver, receiving
from tests.waiting import wait_until


@dataclass(frozen=True)
class CollectedSpan:
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    is_error: bool
    instance: str


@dataclass(frozen=True)
class Collector:
    receiver: Receiver

    @property
    def url(self) -> str:
        return self.receiver.url

    @property
    def spans(self) -> list[CollectedSpan]:
        assert {hook.path for hook in self.receiver.hooks} <= {"/v1/traces"}
        return [span for hook in list(self.receiver.hooks) for span in _read(hook.body)]

    def wait(self, name: str) -> list[CollectedSpan]:
        """Return all spans once there is one of this name."""
        wait_until(lambda: any(span.name == name for span in self.spans), 30)
        return self.spans


@contextmanager
def collecting() -> Iterator[Collector]:
    with receiving() as receiver:
        yield Collector(receiver)


def paths(spans: list[CollectedSpan], parent_id: str = "") -> list[str]:
    """The names of the spans below one, each with those of the spans between, such as `job/segment`; sorted."""
    found: list[str] = []
    for span in spans:
        if span.parent_id == parent_id:
            found += [span.name, *(f"{span.name}/{path}" for path in paths(spans, span.span_id))]
    return sorted(found)


def _read(body: bytes) -> Iterator[CollectedSpan]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        about = _values(resource.resource.attributes)
        assert about["service.name"] == "lipwright"
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            yield CollectedSpan(
                span.name,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                _values(span.attributes),
                span.status.code == span.status.STATUS_CODE_ERROR,
                about["service.instance.id"],
            )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
