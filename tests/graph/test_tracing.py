"""The trace of a job through the real graph."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.graph.test_main_job import wait_until_final
from tests.otlp_collector import CollectedSpan, Collector, paths
from tests.waiting import wait_until

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SUBMIT = "POST /v1/jobs/Director.submit"
RENDER = f"{SUBMIT}/job/segment/Studio.render/attempt/Studio.render"
EXPECTED = (
    f"{SUBMIT}/MediaProbe.probe/attempt/MediaProbe.probe",
    f"{SUBMIT}/job/queue",
    f"{RENDER}/FaceSynthesis/attempt/FaceSynthesis.synthesize",
    f"{SUBMIT}/job/Studio.join/attempt/Studio.join",
)


def test_job_is_one_trace_across_deployments(
    client: httpx.Client, portrait: Path, short_speech: Path, collector: Collector
) -> None:
    files = {"video": (portrait.name, portrait.read_bytes()), "audio": (short_speech.name, short_speech.read_bytes())}
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    accepted = client.post("/v1/jobs", files=files, headers=headers).raise_for_status().json()
    assert wait_until_final(client, accepted["id"])["status"] == "succeeded"

    def found() -> list[CollectedSpan]:
        return [span for span in collector.spans if span.trace_id == TRACE]

    wait_until(lambda: set(EXPECTED) <= set(paths(found(), CALLER)), 60)  # each process exports its own spans
    assert {span.attributes["outcome"] for span in found() if span.name == "attempt"} == {"ok"}
    instances = {span.instance.partition("#")[0] for span in found()}
    assert {"Ingress", "Director", "MediaProbe", "AudioFeatures", "Studio", "FaceSynthesis"} <= instances
