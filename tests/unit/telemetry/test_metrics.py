"""The metrics without Ray: records are harmless, and names, units and outcomes are what the dashboard relies on."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from deployments.runtime.calls import classify
from lipwright.errors import MediaError, StageTimeoutError, StorageUnreachableError
from lipwright.telemetry import metrics
from tests.metric_names import METRICS, documented_row, exported_names


def test_metrics_outside_ray_record_nothing() -> None:
    metrics.JOBS_WAITING.set(1)
    metrics.QUEUE_WAIT.observe(0.5)
    metrics.FINISHED_JOBS.add(1, "failed", "media_invalid")
    metrics.FRAMES.add(0)  # Ray itself refuses to count zero
    metrics.FRAMES.add(25)


def test_exported_names_have_prefix_suffixes_and_docs(repo_root: Path) -> None:
    assert all(re.fullmatch(r"lipwright_[a-z_]+", name) for name in METRICS)
    expected = {"jobs_waiting", "rendered_frames_total", "stage_call_seconds_bucket"}
    assert {f"ray_lipwright_{name}" for name in expected} <= exported_names()
    text = (repo_root / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `ray_lipwright_")]
    assert sorted(rows) == sorted(map(documented_row, METRICS.values()))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (asyncio.CancelledError(), "cancelled"),
        (TimeoutError(), "timeout"),
        (StageTimeoutError("a stage was late"), "timeout"),
        (StageTimeoutError("a stage behind was late twice", was_retried=True), "error"),
        (BackPressureError(num_queued_requests=1, max_queued_requests=1), "full"),
        (StorageUnreachableError("the bucket does not answer"), "unavailable"),
        (ActorDiedError(), "lost"),
        (RayServeException("an upstream actor died"), "lost"),
        (RayTaskError("render", "traceback", SystemError("AST constructor")).as_instanceof_cause(), "lost"),
        (MediaError("broken"), "error"),
        (RayTaskError("render", "traceback", MediaError("broken")).as_instanceof_cause(), "error"),
    ],
)
def test_classify_error_is_the_counted_outcome(error: BaseException, outcome: str) -> None:
    assert classify(error).value == outcome
    with pytest.raises(type(error)), metrics.timed_call("Studio.render", 1, lambda error: classify(error).value):
        raise error
