"""The trace of a job through the real graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from tests.graph.test_main_job import wait_until_final
from tests.otlp_collector import CollectedSpan, Collector, tree
from tests.waiting import wait_until

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_job_is_one_trace_across_deployments(
    client: httpx.Client, portrait: Path, short_speech: Path, collector: Collector
) -> None:
    files = {"video": (portrait.name, portrait.read_bytes()), "audio": (short_speech.name, short_speech.read_bytes())}
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    accepted = client.post("/v1/jobs", files=files, headers=headers).raise_for_status().json()
    assert wait_until_final(client, accepted["id"])["status"] == "succeeded"
    wait_until(lambda: _is_complete(collector.of_trace(TRACE)), 60)  # each process exports its own
    spans = collector.of_trace(TRACE)
    (request,) = tree(spans, CALLER)
    assert request[0] == "POST /v1/jobs"
    submitted = _child(request, "Director.submit")
    assert _path(submitted, "MediaProbe.probe", "attempt", "MediaProbe.probe")
    job = _child(submitted, "job")
    assert _child(job, "queue")
    assert _path(job, "Studio.join", "attempt", "Studio.join")
    rendered = _path(job, "segment", "Studio.render", "attempt", "Studio.render")
    assert _path(rendered, "FaceSynthesis", "attempt", "FaceSynthesis.synthesize")
    instances = {span.instance.partition("#")[0] for span in spans}
    assert {"Ingress", "Director", "MediaProbe", "AudioFeatures", "Studio", "FaceSynthesis"} <= instances
    attempts = [span for span in spans if span.name == "attempt"]
    assert {span.attributes["outcome"] for span in attempts} == {"ok"}


def _is_complete(spans: list[CollectedSpan]) -> bool:
    known = {CALLER, *(span.span_id for span in spans)}
    return {"job", "POST /v1/jobs"} <= {span.name for span in spans} and all(span.parent_id in known for span in spans)


def _child(parent: list[Any], name: str) -> list[Any]:
    return next(child for child in parent[1:] if child[0] == name)


def _path(parent: list[Any], *names: str) -> list[Any]:
    for name in names:
        parent = _child(parent, name)
    return parent
