"""The metrics of the running service at Ray's Prometheus endpoint."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import httpx
import pytest
import ray

from tests.metric_names import METRICS

_WAIT_S = 60.0  # Ray's agents gather every ten seconds
_SERIES = re.compile(r"^(ray_[a-z0-9_]+)(?:\{(.*)\})? ", re.MULTILINE)


@pytest.fixture(scope="module")
def scrape(client: httpx.Client) -> str:
    """What Prometheus would read after a request that is refused and calls to every stage."""
    assert client.get("/v1/jobs/none").status_code == 404
    assert client.get("/readyz").status_code == 200
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        text = httpx.get(url, timeout=30).text
        wanted = ("refusals_total{", "stage_call_seconds_count{", "segments_waiting{", "live_sessions{")
        if all(f"ray_lipwright_{name}" in text for name in wanted):
            return text
        time.sleep(1)
    raise AssertionError(f"Expected our metrics at {url} within {_WAIT_S:.0f} s, found none.")


def test_our_metrics_carry_the_labels_of_serve_and_their_own(scrape: str) -> None:
    (refused,) = [line for line in scrape.splitlines() if _is_series(line, "refusals_total", 'code="not_found"')]
    assert 'deployment="Ingress"' in refused
    assert 'application="lipwright"' in refused
    ready = [line for line in scrape.splitlines() if _is_series(line, "stage_call_seconds_count", 'stage="ready"')]
    assert any('outcome="ok"' in line and 'deployment="Director"' in line for line in ready)


def test_gauges_for_autoscalers_are_exported(scrape: str) -> None:
    names = {"jobs_running", "jobs_waiting", "segments_running", "segments_waiting", "live_sessions"}
    assert {f"ray_lipwright_{name}" for name in names} <= {name for name, _ in _SERIES.findall(scrape)}


def test_described_as_in_the_module(scrape: str) -> None:
    described = dict(re.findall(r"^# HELP ray_(lipwright_[a-z_]+?)(?:_total)? (.*)$", scrape, re.MULTILINE))
    assert described
    assert described.items() <= {(name, metric.description) for name, metric in METRICS.items()}


def test_rays_metrics_of_the_dashboard_are_there(scrape: str, repo_root: Path) -> None:
    dashboard = json.loads((repo_root / "cluster" / "grafana" / "lipwright.json").read_text(encoding="utf-8"))
    queries = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", []))
    wanted = {name for name in re.findall(r"\bray_[a-z0-9_]+", queries) if not name.startswith("ray_lipwright_")}
    needs_gpu = {name for name in wanted if name.startswith(("ray_node_gpus_", "ray_node_gram_"))}
    assert wanted - needs_gpu - {name for name, _ in _SERIES.findall(scrape)} == set()


def _is_series(line: str, name: str, label: str) -> bool:
    return line.startswith(f"ray_lipwright_{name}{{") and label in line
