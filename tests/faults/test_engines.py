"""Engines that hang, crash and raise: each ends its own job by name, in bounded time, while others finish."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.load import Caller, Pair
from tests.faults.service_process import config_with, served


@pytest.mark.endurance
@pytest.mark.timeout(600)
def test_failing_engines_end_their_own_jobs(tmp_path: Path, portrait_pair: Pair) -> None:
    path = config_with(tmp_path, jobs={"min_call_timeout_s": 8.0, "timeout_s_per_frame": 0.05, "max_attempts": 3})
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["applications"][0]["import_path"] = "tests.faults.graph_with_faults:build"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    with served(tmp_path / "data", path) as service:
        caller = Caller(service.url)
        caller.wait([caller.accepted(portrait_pair)], 120)
        started = time.monotonic()
        bad = {engine: caller.accepted(portrait_pair, engine=engine) for engine in ("hangs", "crashes", "raises")}
        good = [caller.accepted(portrait_pair) for _ in range(6)]
        ends: dict[str, float] = {}
        final: dict[str, dict[str, Any]] = {}
        while len(final) < len(bad) + len(good):
            assert time.monotonic() - started < 300, f"not final: {set(bad.values()) | set(good) - set(final)}"
            for job_id in (*bad.values(), *good):
                job = caller.job(job_id)
                if job["status"] in ("succeeded", "failed") and job_id not in final:
                    final[job_id], ends[job_id] = job, time.monotonic() - started
            time.sleep(0.1)
        failures = {engine: f"{final[job_id]['error']} {ends[job_id]:.1f} s" for engine, job_id in bad.items()}
        print(f"\nengines: {failures}; others done after {max(ends[job_id] for job_id in good):.1f} s")
        assert [final[job_id]["status"] for job_id in good] == ["succeeded"] * len(good)
        errors = {engine: final[job_id]["error"] for engine, job_id in bad.items()}
        assert errors["hangs"]["code"] == "stage_timeout" and "FaceSynthesis" in errors["hangs"]["message"]
        assert errors["crashes"]["code"] == "replica_lost" and "FaceSynthesis" in errors["crashes"]["message"]
        assert errors["raises"]["code"] == "internal" and "ZeroDivisionError" in errors["raises"]["message"]
        after = caller.accepted(portrait_pair)
        assert caller.wait([after], 120)[after]["status"] == "succeeded", "the hung replica was replaced"
