"""`/easy/*`: parameters, codes, what the HeyGem routes add and leave out, and the priority rule of every dialect."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from lipwright.config import HeygemConfig, NetworkConfig, TtsConfig
from lipwright.jobs.model.plan import JobOptions
from lipwright.jobs.model.record import JobStatus
from lipwright.storage.file_keys import job_file_key
from lipwright.storage.local.api_keys import FileKeyRing
from tests.unit.api.edge_client import AUDIO, VIDEO, post, problem
from tests.unit.api.heygem.test_clients import HeygemClient, body_of, heygem_service
from tests.unit.api_server import MAX_UPLOAD_BYTES, VIDEO_BYTES, MemoryService, api_client
from tests.unit.net.web import answer
from tests.unit.net.web import serving as serving_web
from tests.unit.on_disk import on_disk
from tests.unit.speech.speech_server import SpeechServer, speaking, tone
from tests.waiting import wait_until

LOOPBACK = NetworkConfig(allowed_networks=("127.0.0.1/32",))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[HeygemClient]:
    with heygem_service(tmp_path) as client:
        yield client


def test_unusable_submissions(client: HeygemClient) -> None:
    (client.root / "temp" / "empty.mp4").touch()
    (client.root / "temp" / "large.mp4").write_bytes(bytes(MAX_UPLOAD_BYTES + 1))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"audio_url": "", "video_url": "", "code": ""}, "audio_url参数缺失"),
        ({"audio_url": None}, "audio_url参数缺失"),
        ({"video_url": ""}, "video_url参数缺失"),
        ({"code": ""}, "code参数缺失"),
        ({"audio_url": {"a": 1}}, "audio_url参数异常"),
        ({"code": "../../x"}, "code参数异常"),
        ({"code": "a\x00b"}, "code参数异常"),
        ({"code": "长" * 100}, "code参数异常"),
        ({"audio_url": "nowhere.wav"}, "audio_url: There is no file 'nowhere.wav'"),
        ({"video_url": "empty.mp4"}, "video_url: 'empty.mp4' is empty"),
        ({"video_url": "large.mp4"}, "video_url: expected at most"),
        ({"audio_url": "http://10.0.0.1/a.wav"}, "audio: http://10.0.0.1/a.wav"),
        ({"audio_url": "file:///etc/passwd"}, "audio: "),
    ]
    bodies: list[tuple[bytes, str]] = [(body_of(**fields), msg) for fields, msg in cases]
    no_objects = (b"", b"{", b"[1]", b"\xff\xfe", b"audio_url=talk.wav", b"[" * 5000, b" " * 70_000)
    for body, msg in (*bodies, *((body, "参数异常") for body in no_objects)):
        refused = client.answer(client.http.post("/easy/submit", content=body))
        assert (refused["code"], refused["success"]) == (10002, False), body[:80]
        assert refused["msg"].startswith(msg), refused
        assert client.service.requests == [] and client.service.uploads() == []


def test_switches_of_a_task_are_options_of_its_job(tmp_path: Path) -> None:
    with heygem_service(tmp_path, super_resolution_engine="wav2lip:gan") as service:

        def options(**switches: object) -> JobOptions:
            code = f"task-{len(service.service.requests)}"
            assert service.submit(code, **switches)["code"] == 10000
            return service.service.requests[-1].options

        loops = {None: "pingpong", "": "pingpong", 1: "pingpong", "1": "pingpong", 0: "loop", "0": "loop", 2: "loop"}
        for pn, loop in loops.items():
            assert (options(pn=pn).loop, options(pn=pn).engine) == (loop, "warp")
        for chaofen in (1, "1"):
            assert options(chaofen=chaofen, watermark_switch=1, digital_auth=1).engine == "wav2lip:gan"
        labels: list[dict[str, object]] = [{}, {"watermark_switch": 1}, {"digital_auth": "1"}]
        for number, switches in enumerate(labels):
            marked = options(**switches)
            assert (marked.visible_label, marked.visible_label_top) == (number == 1, number == 2)


def test_inputs_by_url_and_none_without_a_root(tmp_path: Path) -> None:
    with (
        serving_web(lambda path, send: send(answer(AUDIO if "wav" in path else VIDEO))) as web,
        heygem_service(tmp_path, LOOPBACK, has_root=False) as service,
    ):
        refused = service.submit()
        assert refused["code"] == 10002 and "heygem.root" in refused["msg"]
        service.submit(audio_url=web.url("/a.wav"), video_url=web.url("/v.mp4"))
        (request,) = service.service.requests
        assert on_disk(service.service.files, job_file_key(request.job_id)).read_bytes() == AUDIO
        assert request.video is not None and request.video.num_bytes == len(VIDEO)
        service.service.finish(request.job_id)
        assert service.task()["status"] == 2
        assert not list((service.root / "temp").glob("*-r.mp4")), "nobody named this folder"


def test_a_code_is_one_task_at_a_time(client: HeygemClient) -> None:
    assert client.submit()["code"] == 10000
    data = {"code": "task-1", "current_status": 1}
    assert client.submit() == {"code": 10005, "data": data, "msg": "任务已存在，正在执行中", "success": False}
    first = client.job_id()
    client.service.finish(first)
    assert client.task()["status"] == 2
    refused = client.submit(audio_url="nowhere.wav")
    assert (refused["code"], client.task()["status"]) == (10002, 2), "what came to nothing forgets nothing"
    assert client.submit()["code"] == 10000
    assert client.job_id() != first
    assert client.task()["status"] == 1
    assert client.service.table.get_job(first).status is JobStatus.SUCCEEDED, "the job itself stays"


def test_a_code_that_is_arriving_is_running(tmp_path: Path) -> None:
    is_here, goes_on = threading.Event(), threading.Event()

    def slow(path: str, send: Any) -> None:
        is_here.set()
        goes_on.wait(60)
        send(answer(AUDIO))

    with serving_web(slow) as web, heygem_service(tmp_path, LOOPBACK) as service, ThreadPoolExecutor(1) as threads:
        first = threads.submit(service.submit, audio_url=web.url("/a.wav"))
        assert is_here.wait(60)
        assert service.submit()["code"] == 10005
        goes_on.set()
        assert first.result(60)["code"] == 10000 and len(service.service.requests) == 1


def test_which_job_a_code_names_survives_a_restart(tmp_path: Path) -> None:
    with heygem_service(tmp_path) as service:
        service.submit()
        service.service.finish(service.job_id())
    again = MemoryService(tmp_path / "data")
    with api_client(again, heygem=HeygemConfig(enabled=True)) as http:
        assert HeygemClient(http, again, tmp_path).task()["status"] == 2


def test_codes_of_other_keys_are_unknown(client: HeygemClient) -> None:
    keys = FileKeyRing(client.service.files.root)
    _, one = keys.add("one")
    client.http.headers["X-API-Key"] = one
    client.submit()
    _, other = keys.add("other")
    assert client.task()["status"] == 1
    client.http.headers["X-API-Key"] = other
    assert client.query()["code"] == 10004
    assert client.answer(client.http.post("/easy/cancel?code=task-1"))["code"] == 10004
    assert client.http.get("/easy/download?code=task-1").status_code == 404
    del client.http.headers["X-API-Key"]
    assert client.http.get("/easy/query?code=task-1").status_code == 401


def test_keys_do_not_meet_in_the_data_root(tmp_path: Path) -> None:
    """Two keys with the same code; the second one also tries the result of the first as its source."""
    with (
        serving_web(lambda path, send: send(answer(AUDIO if "wav" in path else VIDEO))) as web,
        heygem_service(tmp_path, LOOPBACK) as service,
    ):
        by_url = {"audio_url": web.url("/a.wav"), "video_url": web.url("/v.mp4")}
        keys = FileKeyRing(service.service.files.root)
        _, one = keys.add("one")
        service.http.headers["X-API-Key"] = one
        assert service.submit("same")["code"] == 10000
        service.service.finish(service.job_id())
        assert service.task("same")["status"] == 2
        result = service.root / "temp" / "same-r.mp4"
        assert result.read_bytes() == VIDEO_BYTES, "with one key, the root is used"
        result.write_bytes(b"of the first key")
        second, other = keys.add("other")
        service.http.headers["X-API-Key"] = other
        refused = service.submit("stolen", **by_url | {"video_url": "same-r.mp4"})
        assert refused["code"] == 10002 and "more than one API key" in refused["msg"]
        assert service.submit("same", **by_url)["code"] == 10000
        service.service.finish(service.job_id())
        assert service.task("same")["result"] == "/same-r.mp4"
        assert service.http.get("/easy/download/same-r.mp4").content == VIDEO_BYTES
        assert result.read_bytes() == b"of the first key"
        keys.revoke(second.id)
        service.http.headers["X-API-Key"] = one
        assert service.submit("again")["code"] == 10000


def test_a_full_service_is_busy(client: HeygemClient) -> None:
    client.service.is_full = True
    assert client.submit() == {"code": 10001, "data": {}, "msg": "忙碌中", "success": True}
    assert client.service.uploads() == []
    client.service.is_full = False
    assert [client.submit(f"task-{number}")["code"] for number in range(3)] == [10000] * 3, "others wait"


def test_strict_has_the_habits_of_the_original(tmp_path: Path) -> None:
    with heygem_service(tmp_path, strict=True) as service:
        assert service.submit("one")["code"] == 10000
        assert service.submit("two") == {"code": 10001, "data": {}, "msg": "忙碌中", "success": True}
        assert service.task("one")["status"] == service.task("one")["status"] == 1
        service.service.finish(service.job_id())
        assert service.task("one")["status"] == 2
        assert service.query("one")["code"] == 10004, "reported once"
        assert (service.root / "temp" / "one-r.mp4").read_bytes() == VIDEO_BYTES
        assert service.submit("two")["code"] == 10000


def test_two_submissions_at_once_are_not_both_let_in_when_strict(tmp_path: Path) -> None:
    with heygem_service(tmp_path, strict=True) as service, ThreadPoolExecutor(6) as threads:
        codes = threads.map(lambda number: service.submit(f"task-{number}")["code"], range(6))
        assert sorted(codes) == [10000, *[10001] * 5]


def test_strict_submission_beside_another_is_busy_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_submit = threading.Event()
    with heygem_service(tmp_path, strict=True) as service, ThreadPoolExecutor(1) as threads:
        submit = service.service.submit

        async def slow(*arguments: Any) -> Any:
            await asyncio.to_thread(may_submit.wait, 10)
            return await submit(*arguments)

        monkeypatch.setattr(service.service, "submit", slow)
        first = threads.submit(service.submit, "one")
        wait_until(lambda: bool(service.service.places))
        assert service.submit("two")["code"] == 10001
        assert not first.done()
        may_submit.set()
        assert first.result()["code"] == 10000


def test_cancel_ends_a_task_by_query_or_body(client: HeygemClient) -> None:
    client.submit("by query"), client.submit("by body")
    for query, body in (({"code": "by query"}, None), ({}, {"code": "by body"})):
        cancelled = client.answer(client.http.post("/easy/cancel", params=query, json=body))
        assert (cancelled["code"], cancelled["data"]["status"]) == (10000, 3)
        assert "任务已取消" in cancelled["data"]["msg"]
        assert client.answer(client.http.post("/easy/cancel", params=query, json=body))["code"] == 10004
    assert client.answer(client.http.post("/easy/cancel", params={"code": "x"}))["code"] == 10004
    assert client.answer(client.http.post("/easy/cancel"))["code"] == 10002
    assert client.http.get("/easy/cancel?code=x").status_code == 405, "a link or a picture cancels nothing"
    assert client.http.get("/easy/download?code=task-1").json()["code"] == "not_found"
    client.submit()
    assert client.http.get("/easy/download?code=task-1").status_code == 409
    refused = client.http.post("/v1/preprocess_and_tran", json=TRAINING).json()
    assert refused["code"] == -1 and "has no voice" in refused["msg"]


def test_a_defect_tells_nothing_of_the_inside(client: HeygemClient) -> None:
    client.submit()
    client.service.finish(client.job_id())
    (client.root / "temp" / "task-1-r.mp4").mkdir()
    assert client.query() == {"code": 9999, "data": {}, "msg": "系统异常", "success": False}


AXIOS = {"Accept": "application/json, text/plain, */*", "User-Agent": "axios/1.7.9"}
TRAINING = {"format": ".wav", "reference_audio": "origin_audio/20261128_person.wav", "lang": "zh"}


@contextmanager
def _voice_client(service: MemoryService, **speech: Any) -> Iterator[tuple[httpx.Client, SpeechServer]]:
    with (
        speaking(sound=tone(0.2), **speech) as voice,
        api_client(service, heygem=HeygemConfig(enabled=True), tts=TtsConfig(url=voice.url)) as http,
    ):
        http.headers.update(AXIOS)
        yield http, voice


def _invocation(model: dict[str, Any], text: str) -> dict[str, Any]:
    """The desktop client's request, field by field."""
    speaker = {"speaker": "f1c2a8f0-8f4e-4d55-9d5e-2f1f1d3b8c55", "text": text, "format": "wav", "need_asr": False}
    numbers = {"topP": 0.7, "max_new_tokens": 1024, "chunk_length": 100, "repetition_penalty": 1.2, "temperature": 0.7}
    reference = {"reference_audio": model["asr_format_audio_url"], "reference_text": model["reference_audio_text"]}
    return {**speaker, **numbers, **reference, "streaming": False, "is_fixed_seed": 0, "is_norm": 1}


def test_the_desktop_client_creates_a_model_and_lets_it_speak(service: MemoryService) -> None:
    with _voice_client(service) as (http, voice):
        model = http.post("/v1/preprocess_and_tran", json=TRAINING).json()
        assert model["code"] == 0
        spoken = http.post("/v1/invoke", json=_invocation(model, "大家好。"))
        assert (spoken.status_code, spoken.headers["content-type"]) == (200, "audio/wav")
        assert spoken.content == tone(0.2)
        assert [(asked["input"], asked["voice"]) for asked in voice.asked] == [("大家好。", "alloy")]


def test_what_cannot_be_spoken_says_why(service: MemoryService) -> None:
    with _voice_client(service, status=500) as (http, _):
        model = http.post("/v1/preprocess_and_tran", json=TRAINING).json()
        failed = http.post("/v1/invoke", json=_invocation(model, "Hello."))
        assert (failed.status_code, failed.json()["code"]) == (503, -1) and "status 500" in failed.json()["msg"]
        empty = http.post("/v1/invoke", json=_invocation(model, " "))
        assert (empty.status_code, empty.json()) == (422, {"code": -1, "msg": "text is required"})
        assert http.post("/v1/preprocess_and_tran", json={}).json()["code"] == -1
        assert http.post("/v1/preprocess_and_tran", content=b"[").json()["code"] == -1
        assert http.post("/v1/invoke", content=b" " * 70_000).status_code == 413


def test_heygem_routes_are_off_by_default(service: MemoryService) -> None:
    with speaking() as voice, api_client(service, tts=TtsConfig(url=voice.url)) as http:
        for path in ("/easy/submit", "/v1/invoke"):
            assert http.post(path, json={"text": "Hello."}).status_code in (404, 405)


@pytest.mark.parametrize(("max_priority", "expected"), [(None, 0), (-1, -1), (0, 0), (1, 0)])
def test_default_priority_is_normal_or_the_highest_of_the_key(
    client: HeygemClient, max_priority: int | None, expected: int
) -> None:
    if max_priority is not None:
        _, key = FileKeyRing(client.service.files.root).add("a studio", max_priority)
        client.http.headers["X-API-Key"] = key
    assert post(client.http, headers={}).status_code == 202
    files = {"audio": ("a.wav", AUDIO), "input_reference": ("face.png", VIDEO)}
    assert client.http.post("/v1/videos", files=files).status_code == 200
    assert client.submit()["code"] == 10000
    assert [request.priority for request in client.service.requests] == [expected] * 3


def test_priority_above_that_of_the_key_is_forbidden(http: httpx.Client, service: MemoryService) -> None:
    ring = FileKeyRing(service.files.root)
    keys = {highest: ring.add(f"a studio {highest}", highest)[1] for highest in (-1, 0, 1)}
    for highest, priority in ((-1, 0), (-1, 1), (0, 1)):
        refused = post(http, headers={"X-API-Key": keys[highest]}, priority=str(priority))
        detail = f"priority: expected at most {highest} with this API key, found {priority}."
        assert problem(refused, 403, "forbidden")["detail"] == detail
        assert service.requests == [] and service.uploads() == []
    for highest, priority in ((-1, -1), (0, 0), (1, 1), (1, -1)):
        assert post(http, headers={"X-API-Key": keys[highest]}, priority=str(priority)).status_code == 202
        assert service.requests[-1].priority == priority
