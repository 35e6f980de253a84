"""Webhooks, and the trace of a job: one tree from the request to the webhook, also when it is resumed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from deployments.runtime.calls import CallBounds, call_stage
from lipwright.api.v1.protocol import webhook_view
from lipwright.config import JobConfig, NetworkConfig, PipelineConfig, RenderConfig
from lipwright.errors import StorageFullError
from lipwright.jobs.job_trace import context_of, trace_headers
from lipwright.jobs.messages import RenderedSegment, SegmentRequest
from lipwright.jobs.model.base import new_id, utc_now
from lipwright.jobs.model.record import CallbackRecord, JobRecord, JobStatus
from lipwright.jobs.scheduler import JobScheduler
from lipwright.jobs.webhooks import Webhooks, _is_due
from lipwright.storage.file_keys import job_file_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.key_ring import webhook_secret
from lipwright.telemetry.log_context import CallContext, call_context
from lipwright.telemetry.trace_context import TraceContext
from models.engines.warp.plan import MouthPlan
from tests.graph.receiver import receiving
from tests.otlp_collector import Collector, paths
from tests.ports import quiet_port
from tests.unit.deployments.runtime.test_calls import Response, raising
from tests.unit.job_records import job_record
from tests.unit.jobs.job_bench import JobBench
from tests.unit.jobs.test_run import FixedAvatars, MemoryStages
from tests.unit.on_disk import on_disk
from tests.waiting import until

CALLER = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True, "a=1")
CONFIG = PipelineConfig(
    jobs=JobConfig(max_attempts=3), render=RenderConfig(block_seconds=7, segment_seconds=3, first_segment_seconds=3)
)


class CalledStages(MemoryStages):
    """Stages behind `call_stage`; the first attempt at the segment from frame 75 on loses its replica."""

    hangs_from: int | None = None  # frame

    async def render(self, context: CallContext, request: SegmentRequest, out: str, *rest: Any) -> RenderedSegment:
        plan = request.faces[0].plan
        assert isinstance(plan, MouthPlan)
        if self.hangs_from is not None and plan.first_frame >= self.hangs_from:
            await asyncio.sleep(60)
        rendered = await super().render(context, request, out, *rest)

        def start(context: CallContext) -> Any:
            if plan.first_frame == 75 and context.attempt == 1:
                return Response(raising(SystemError("replica died")))
            return Response(lambda: rendered)

        return await call_stage("Studio.render", context, start, CallBounds(60, 3, 60))

    async def join(self, context: CallContext, *rest: Any) -> None:
        await call_stage("Studio.join", context, lambda _: Response(lambda: None), CallBounds(60, 3, 60))  # type: ignore[arg-type,return-value]
        await super().join(context, *rest)


def _scheduler(stages: MemoryStages, table: JobTable, files: FileStore) -> JobScheduler:
    return JobScheduler(JobBench(files, table, stages, CONFIG, FixedAvatars).services)


def _submitted(table: JobTable, files: FileStore, **fields: Any) -> JobRecord:
    job = table.insert_job(job_record(**fields))
    on_disk(files, job_file_key(job.id)).write_bytes(b"abc")
    return job


async def test_job_is_one_tree_with_attempts_and_webhook(
    files: FileStore, table: JobTable, collector: Collector
) -> None:
    with call_context(CallContext("", trace=CALLER)), receiving() as receiver:
        job = _submitted(table, files, callback_url=receiver.url, trace=trace_headers())
        await _scheduler(CalledStages(files), table, files).start_waiting()
        await until(lambda: table.get_job(job.id).status is JobStatus.SUCCEEDED)
        async with _delivering(table, files.root):
            await until(lambda: receiver.hooks and not table.pending_callbacks(9))
        (hook,) = receiver.hooks
        spans = await asyncio.to_thread(collector.wait, "webhook")
    call = "job/segment/Studio.render"
    assert paths(spans, CALLER.span_id) == [
        *("job", "job/Studio.join", "job/Studio.join/attempt", "job/queue", "job/segment", "job/segment"),
        *(call, call, f"{call}/attempt", f"{call}/attempt", f"{call}/attempt", "job/webhook"),
    ]
    assert {span.trace_id for span in spans} == {CALLER.trace_id}
    outcomes = {(each.attributes["attempt"], each.attributes["outcome"]) for each in spans if each.name == "attempt"}
    assert outcomes == {(1, "ok"), (1, "lost"), (2, "ok")}
    assert {each.attributes["segment"] for each in spans if each.name == "segment"} == {0, 1}
    webhook = next(each for each in spans if each.name == "webhook")
    assert hook.headers["traceparent"] == f"00-{CALLER.trace_id}-{webhook.span_id}-01"
    assert hook.headers["tracestate"] == CALLER.state


async def test_resumed_job_has_the_span_of_its_first_run(
    files: FileStore, table: JobTable, collector: Collector
) -> None:
    job, stages = _submitted(table, files), CalledStages(files)
    first = _scheduler(stages, table, files)
    stages.hangs_from = 75
    await first.start_waiting()
    await until(lambda: table.finished_segments(job.id))
    await first.stop_all()
    stages.hangs_from = None
    await _scheduler(stages, table, files).resume_unfinished()
    await until(lambda: table.get_job(job.id).status.is_final)
    spans = await asyncio.to_thread(collector.wait, "job")
    (whole,) = (each for each in spans if each.name == "job")
    assert (whole.trace_id, whole.parent_id) == (job.id, ""), "no request brought it"
    assert whole.attributes["status"] == "succeeded"
    segments = [each for each in spans if each.name == "segment"]
    assert len(segments) == 3, "those of the first run are among them"
    assert {each.parent_id for each in spans if each.name in ("queue", "segment", "Studio.join")} == {whole.span_id}
    assert sum(each.name == "queue" for each in spans) == 1


@pytest.mark.parametrize(
    ("trace", "trace_id"), [({}, None), (CALLER.headers(), CALLER.trace_id), ({"traceparent": "00-no"}, None)]
)
def test_context_of_has_the_callers_trace_or_that_of_the_id(trace: dict[str, str], trace_id: str | None) -> None:
    job = job_record(trace=trace)
    found = context_of(job).trace
    assert found is not None and found.trace_id == (trace_id or job.id)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lipwright.jobs.webhooks._PERIOD_S", 0.05)
    monkeypatch.setattr("lipwright.jobs.webhooks.retry_delay_s", lambda attempts: 0.05)


@asynccontextmanager
async def _delivering(table: JobTable, folder: Path) -> AsyncIterator[None]:
    """Deliver webhooks as a Director does."""
    network = NetworkConfig(allowed_networks=("127.0.0.0/8",))
    webhooks = Webhooks(network, table, lambda owner: webhook_secret(folder, owner), webhook_view)
    running = asyncio.create_task(webhooks.run())
    try:
        yield
    finally:
        tasks = [running, *webhooks._in_flight.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _cancelled_job(table: JobTable, callback_url: str, **fields: Any) -> JobRecord:
    job = table.insert_job(job_record(callback_url=callback_url, **fields))
    table.update_job(job.id, status=JobStatus.CANCELLED)
    return job


async def test_webhooks_on_a_full_disk_do_not_flood_the_receiver(
    table: JobTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, full = Mock(side_effect=table.pending_callbacks), Mock(side_effect=StorageFullError("The disk is full."))
    monkeypatch.setattr(table, "pending_callbacks", looks)
    with receiving() as receiver:
        async with _delivering(table, tmp_path):
            _cancelled_job(table, receiver.url)
            monkeypatch.setattr(table, "put_callback", full)
            await until(lambda: receiver.hooks)
            told_at = looks.call_count
            await until(lambda: looks.call_count >= told_at + 9)
        assert len(receiver.hooks) == 1 and full.called


async def test_pending_webhook_is_delivered_after_a_restart(table: JobTable, tmp_path: Path) -> None:
    port = quiet_port()
    async with _delivering(table, tmp_path):
        job = _cancelled_job(table, f"http://127.0.0.1:{port}/later", trace=CALLER.headers())
        await until(lambda: any(each.attempts for each in table.pending_callbacks(9)))  # nobody listens there
    with receiving(port) as receiver:
        async with _delivering(table, tmp_path):
            await until(lambda: receiver.hooks and not table.pending_callbacks(9))
        (hook,) = receiver.hooks
    assert (hook.event["type"], hook.event["data"]["id"]) == ("job.cancelled", job.id)
    assert hook.is_signed_with(webhook_secret(tmp_path, None))
    passed_on = {name: hook.headers[name] for name in CALLER.headers()}
    assert passed_on == CALLER.headers(), "also without a collector"


async def test_webhook_of_an_unreadable_job_counts_attempts(table: JobTable, tmp_path: Path) -> None:
    job = _cancelled_job(table, "http://127.0.0.1:1/")
    with table.database.transaction():
        table.database.update("jobs", "id", job.id, {"plan": "{}"})
    async with _delivering(table, tmp_path):
        await until(lambda: any("cannot be read" in (each.error or "") for each in table.pending_callbacks(9)))


@pytest.mark.parametrize(
    ("attempts", "left_s", "is_due"), [(1, -1, True), (1, 5, False), (1, 3600, True), (4, 3600, False)]
)
def test_a_webhook_is_not_delayed_by_a_clock_that_was_set_back(attempts: int, left_s: float, is_due: bool) -> None:
    next_at = utc_now() + timedelta(seconds=left_s)
    assert _is_due(CallbackRecord(job_id=new_id(), attempts=attempts, next_at=next_at)) == is_due
