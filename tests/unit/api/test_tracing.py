"""The caller's trace at every entry that creates work."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from config import HeygemConfig
from jobs.model.record import JobRecord
from jobs.model.spec import JobSpec
from jobs.requests import AvatarRequest, RequestContext
from rendering.live_chunk import LiveChunk, LiveChunkRequest
from storage.row_codec import AvatarRecord
from telemetry.log_context import CallContext, call_context, current_trace
from telemetry.trace_context import TraceContext
from tests.otlp_collector import Collector
from tests.unit.api.live.live_parts import GreyService
from tests.unit.api.live.test_routes import first, socket
from tests.unit.api.live.test_session_stream import Talk
from tests.unit.api.live.test_tts_queue import Beep
from tests.unit.api_server import MemoryService

CALLER = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True, "a=1")


class TracedService(MemoryService):
    """Notes the trace in which it is called."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.traces: list[TraceContext | None] = []

    async def submit(self, spec: JobSpec, context: RequestContext) -> JobRecord:
        self.traces.append(current_trace())
        return await super().submit(spec, context)

    async def create_avatar(self, request: AvatarRequest) -> AvatarRecord:
        self.traces.append(current_trace())
        return await super().create_avatar(request)


class TracedLive(GreyService):
    """Notes the traces in which chunks are rendered."""

    def __init__(self) -> None:
        super().__init__()
        self.traces: list[TraceContext | None] = []

    async def render(self, request: LiveChunkRequest) -> LiveChunk:
        self.traces.append(current_trace())
        return await super().render(request)


@pytest.fixture
def service(tmp_path: Path) -> TracedService:
    return TracedService(tmp_path / "data")


@pytest.fixture
def live() -> TracedLive:
    return TracedLive()


@pytest.fixture
def api_settings(live: TracedLive, tmp_path: Path) -> dict[str, Any]:
    inputs = tmp_path / "temp"
    inputs.mkdir()
    for name in ("a.wav", "v.mp4"):
        (inputs / name).write_bytes(b"RIFF" + bytes(500))
    return {"live": live, "heygem": HeygemConfig(enabled=True, root=tmp_path)}


def _post(http: httpx.Client, path: str, headers: dict[str, str]) -> None:
    if path == "/easy/submit":
        task = json.dumps({"audio_url": "a.wav", "video_url": "v.mp4", "code": "1"})
        http.post(path, content=task, headers=headers).raise_for_status()
        return
    names = {"/v1/videos": ("audio", "input_reference"), "/v1/avatars": ("video",)}.get(path, ("audio", "video"))
    files = {name: (name, b"RIFF" + bytes(500)) for name in names}
    http.post(path, files=files, headers=headers).raise_for_status()


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/videos", "/easy/submit", "/v1/avatars"])
def test_request_with_traceparent_is_in_that_trace(http: httpx.Client, service: TracedService, path: str) -> None:
    _post(http, path, CALLER.headers())
    assert service.traces == [CALLER]


@pytest.mark.parametrize("path", ["/v1/jobs", "/easy/submit"])
def test_request_with_malformed_traceparent_is_accepted(http: httpx.Client, service: TracedService, path: str) -> None:
    _post(http, path, {"traceparent": "00-xyz", "tracestate": "a=1"})
    assert service.traces == [None]


def test_request_is_a_span_below_its_caller(collector: Collector, http: httpx.Client, service: TracedService) -> None:
    _post(http, "/v1/jobs", CALLER.headers())
    _post(http, "/v1/jobs", {})
    http.get("/v1/jobs").raise_for_status()
    http.post("/v1/jobs/none/cancel")
    spans = {span.span_id: span for span in collector.wait("POST /v1/jobs/{job_id}/cancel")}
    below, root = service.traces
    assert below is not None and root is not None
    assert (below.trace_id, spans[below.span_id].parent_id) == (CALLER.trace_id, CALLER.span_id)
    assert spans[root.span_id].parent_id == "" and root.trace_id != CALLER.trace_id
    assert [(each.name, each.attributes["http.response.status_code"]) for each in spans.values()] == [
        *[("POST /v1/jobs", 202)] * 2,
        ("POST /v1/jobs/{job_id}/cancel", 404),
    ]


def test_live_session_is_one_trace_with_groups_of_chunks(collector: Collector, url: str, live: TracedLive) -> None:
    with socket(url, **CALLER.headers()) as line:
        for _ in range(3):
            first(line, "session.fragment")
    spans = collector.wait("WebSocket /v1/live")
    (session,) = (each for each in spans if each.name == "WebSocket /v1/live")
    (silence,) = (each for each in spans if each.name == "silence")
    assert (session.parent_id, silence.parent_id) == (CALLER.span_id, session.span_id)
    assert silence.attributes["chunks"] >= 3 and silence.attributes["late_chunks"] == 0
    assert {trace and (trace.trace_id, trace.is_sampled) for trace in live.traces} == {(CALLER.trace_id, False)}


async def test_text_of_a_live_session_is_a_span(collector: Collector) -> None:
    talk = Talk(voice=Beep())
    with call_context(CallContext("", trace=CALLER)):
        async with talk.session() as session:
            await session.take_text(json.dumps({"type": "agent.speak_text", "text": "Good morning."}))
            await talk.until(lambda: bool(talk.line.of("agent.speak_ended")))
    spans = {each.name: each for each in await asyncio.to_thread(collector.wait, "speech")}
    assert spans["text"].attributes == {"characters": 13}
    assert spans["text"].parent_id == spans["speech"].parent_id == CALLER.span_id
