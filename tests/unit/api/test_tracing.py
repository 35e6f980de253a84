"""The caller's trace at every entry that creates work."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from lipwright.config import HeygemConfig
from lipwright.jobs.model.base import new_id
from lipwright.telemetry.log_context import CallContext, call_context, current_trace
from lipwright.telemetry.trace_context import TraceContext
from tests.otlp_collector import Collector
from tests.unit.api.live.live_parts import GreyService
from tests.unit.api.live.test_routes import first, socket
from tests.unit.api.live.test_session_stream import Talk
from tests.unit.api.live.test_tts_queue import Beep
from tests.unit.api_server import MemoryService

CALLER = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True, "a=1")


Traces = list[TraceContext | None]


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Traces:
    """The traces in which jobs and avatars are created and chunks are rendered."""
    found: Traces = []

    def traced(kind: type, name: str) -> None:
        method = getattr(kind, name)

        async def call(*arguments: Any) -> Any:
            found.append(current_trace())
            return await method(*arguments)

        monkeypatch.setattr(kind, name, call)

    for kind, name in ((MemoryService, "submit"), (MemoryService, "create_avatar"), (GreyService, "render")):
        traced(kind, name)
    return found


@pytest.fixture
def api_settings(tmp_path: Path) -> dict[str, Any]:
    inputs = tmp_path / "temp"
    inputs.mkdir()
    for name in ("a.wav", "v.mp4"):
        (inputs / name).write_bytes(b"RIFF" + bytes(500))
    return {"live": GreyService(), "heygem": HeygemConfig(enabled=True, root=tmp_path)}


def _post(http: httpx.Client, path: str, headers: dict[str, str]) -> None:
    if path == "/easy/submit":
        body: Any = {"json": {"audio_url": "a.wav", "video_url": "v.mp4", "code": new_id()}}
    else:
        fields = {"/v1/videos": ("audio", "input_reference"), "/v1/avatars": ("video",)}.get(path, ("audio", "video"))
        body = {"files": {name: (name, b"RIFF" + bytes(500)) for name in fields}}
    http.post(path, **body, headers=headers).raise_for_status()


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/videos", "/easy/submit", "/v1/avatars"])
def test_request_with_traceparent_is_in_that_trace(http: httpx.Client, traces: Traces, path: str) -> None:
    malformed = {"traceparent": "00-xyz", "tracestate": "a=1"}
    for headers, trace in ((CALLER.headers(), CALLER), (malformed, None)):
        _post(http, path, headers)
        assert traces.pop() == trace


def test_request_is_a_span_below_its_caller(collector: Collector, http: httpx.Client, traces: Traces) -> None:
    _post(http, "/v1/jobs", CALLER.headers())
    _post(http, "/v1/jobs", {})
    http.get("/v1/jobs").raise_for_status()
    http.post("/v1/jobs/none/cancel")
    spans = {span.span_id: span for span in collector.wait("POST /v1/jobs/{job_id}/cancel")}
    below, root = traces
    assert below is not None and root is not None
    assert (below.trace_id, spans[below.span_id].parent_id) == (CALLER.trace_id, CALLER.span_id)
    assert spans[root.span_id].parent_id == "" and root.trace_id != CALLER.trace_id
    found = [(each.name, each.attributes["http.response.status_code"]) for each in spans.values()]
    assert found == [*[("POST /v1/jobs", 202)] * 2, ("POST /v1/jobs/{job_id}/cancel", 404)]


def test_live_session_is_one_trace_with_groups_of_chunks(collector: Collector, url: str, traces: Traces) -> None:
    with socket(url, **CALLER.headers()) as line:
        for _ in range(3):
            first(line, "session.fragment")
    spans = collector.wait("WebSocket /v1/live")
    (session,) = (each for each in spans if each.name == "WebSocket /v1/live")
    (silence,) = (each for each in spans if each.name == "silence")
    assert (session.parent_id, silence.parent_id) == (CALLER.span_id, session.span_id)
    assert silence.attributes["chunks"] >= 3 and silence.attributes["late_chunks"] == 0
    assert {trace and (trace.trace_id, trace.is_sampled) for trace in traces} == {(CALLER.trace_id, False)}


async def test_text_of_a_live_session_is_a_span(collector: Collector) -> None:
    talk = Talk(voice=Beep())
    with call_context(CallContext("", trace=CALLER)):
        async with talk.session() as session:
            await session.take_text(json.dumps({"type": "agent.speak_text", "text": "Good morning."}))
            await talk.until(lambda: bool(talk.line.of("agent.speak_ended")))
    spans = {each.name: each for each in await asyncio.to_thread(collector.wait, "speech")}
    assert spans["text"].attributes == {"characters": 13}
    assert spans["text"].parent_id == spans["speech"].parent_id == CALLER.span_id
