from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
import ray

from tests.graph.test_main_job import wait_until_final
from tests.metric_names import METRICS
from tests.otlp_collector import CollectedSpan, Collector, paths
from tests.waiting import wait_until

_WAIT_S = 60.0  # Ray's agents gather every ten seconds
_SERIES = re.compile(r"^(ray_[a-z0-9_]+)(?:\{(.*)\})? ", re.MULTILINE)


def _is_series(line: str, name: str, label: str) -> bool:
    return line.startswith(f"ray_lipwright_{name}{{") and label in line


@pytest.fixture(scope="module")
def scrape(client: httpx.Client) -> str:
    """What Prometheus would read after a request that is refused and calls to every stage."""
    assert client.get("/v1/jobs/none").status_code == 404
    assert client.get("/readyz").status_code == 200
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    wanted = ("refusals_total{", "stage_call_seconds_count{", "segments_waiting{", "live_sessions{")
    texts: list[str] = []

    def has_ours() -> bool:
        texts.append(httpx.get(url, timeout=30).text)
        return all(f"ray_lipwright_{name}" in texts[-1] for name in wanted)

    wait_until(has_ours, _WAIT_S, 1)
    return texts[-1]


def test_metrics_have_labels_gauges_and_descriptions(scrape: str) -> None:
    (refused,) = [line for line in scrape.splitlines() if _is_series(line, "refusals_total", 'code="not_found"')]
    assert 'deployment="Ingress"' in refused
    assert 'application="lipwright"' in refused
    ready = [line for line in scrape.splitlines() if _is_series(line, "stage_call_seconds_count", 'stage="ready"')]
    assert any('outcome="ok"' in line and 'deployment="Director"' in line for line in ready)
    gauges = {"jobs_running", "jobs_waiting", "segments_running", "segments_waiting", "live_sessions"}
    assert {f"ray_lipwright_{name}" for name in gauges} <= {name for name, _ in _SERIES.findall(scrape)}
    described = dict(re.findall(r"^# HELP ray_(lipwright_[a-z_]+?)(?:_total)? (.*)$", scrape, re.MULTILINE))
    assert described
    assert described.items() <= {(name, metric.description) for name, metric in METRICS.items()}


def test_rays_metrics_of_the_dashboard_are_there(scrape: str, repo_root: Path) -> None:
    dashboard = json.loads((repo_root / "cluster" / "grafana" / "lipwright.json").read_text(encoding="utf-8"))
    queries = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", []))
    wanted = {name for name in re.findall(r"\bray_[a-z0-9_]+", queries) if not name.startswith("ray_lipwright_")}
    needs_gpu = {name for name in wanted if name.startswith(("ray_node_gpus_", "ray_node_gram_"))}
    assert wanted - needs_gpu - {name for name, _ in _SERIES.findall(scrape)} == set()


TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SUBMIT = "POST /v1/jobs/Director.submit"
RENDER = f"{SUBMIT}/job/segment/Studio.render/attempt/Studio.render"
EXPECTED = (
    f"{SUBMIT}/MediaProbe.probe/attempt/MediaProbe.probe",
    f"{SUBMIT}/job/queue",
    f"{RENDER}/FaceSynthesis/attempt/FaceSynthesis.synthesize",
    f"{SUBMIT}/job/Studio.join/attempt/Studio.join",
)


def test_job_is_one_trace(client: httpx.Client, portrait: Path, short_speech: Path, collector: Collector) -> None:
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
