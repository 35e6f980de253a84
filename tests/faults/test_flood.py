"""Two hundred submissions at once on a queue of twenty, before stages that hold one request and let one wait."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
import yaml

from tests.faults.health_probe import HealthProbe
from tests.faults.load import Caller, Pair, submit_all
from tests.faults.service_process import config_with, served
from tests.ports import quiet_port

NUM_SUBMISSIONS, NUM_QUEUED = 200, 20


def make_stages_narrow(config: Path) -> None:
    """Let one request wait for each stage, so that the stages are full while the jobs run."""
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    for deployment in content["applications"][0]["deployments"]:
        if deployment["name"] not in ("Ingress", "Director"):
            deployment |= {"max_ongoing_requests": 1, "max_queued_requests": 1}
    config.write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.mark.timeout(400)
def test_create_job_in_a_flood_succeeds_or_returns_429(tmp_path: Path, portrait_pair: Pair) -> None:
    config = config_with(tmp_path, jobs={"max_queued_jobs": NUM_QUEUED, "max_running_jobs": 8})
    make_stages_narrow(config)
    metrics_port = quiet_port()
    with served(tmp_path / "data", config, ("--metrics-port", str(metrics_port))) as service:
        caller = Caller(service.url)
        warm = caller.accepted(portrait_pair)
        caller.wait([warm], 120)
        with HealthProbe(service.url) as health:
            started = time.monotonic()
            answers = submit_all(caller, [portrait_pair] * NUM_SUBMISSIONS, num_at_once=24)
            sent_s = time.monotonic() - started
            accepted = [answer.json()["id"] for answer in answers if answer.status_code == 202]
            final = caller.wait(accepted, 240)
            took_s = time.monotonic() - started
        statuses = Counter(answer.status_code for answer in answers)
        p50, p99 = health.percentile(0.5) * 1000, health.percentile(0.99) * 1000
        print(
            f"\nflood: {dict(statuses)} in {sent_s:.1f} s, all accepted done after {took_s:.1f} s; "
            f"healthz p50 {p50:.1f} ms, p99 {p99:.1f} ms of {len(health.seconds)}"
        )
        assert set(statuses) == {202, 429}
        assert len(accepted) >= NUM_QUEUED
        assert Counter(job["status"] for job in final.values()) == {"succeeded": len(accepted)}
        for answer in answers:
            if answer.status_code == 429:
                assert 1 <= int(answer.headers["retry-after"]) <= 120
                assert answer.json()["code"] == "over_capacity"
        assert p99 < 1000 * health.bound(1.0)  # a flood of good jobs is no attack; 45 to 165 ms measured
        scraped = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics", trust_env=False, timeout=20).text
        full = re.findall(r'^ray_lipwright_stage_call_seconds_count{.*outcome="full".*} (\S+)$', scraped, re.MULTILINE)
        print(f"full stages sent callers away {sum(map(float, full)):.0f} times")
        assert full, "stages were full, and no job failed for it"
        status = httpx.get(f"{service.url}/v1/status", timeout=60, trust_env=False).json()
        assert (status["queue"]["num_queued"], status["queue"]["num_arriving"]) == (0, 0)
        assert status["is_rate_measured"]
