"""What the client does when connections break, against a server on raw sockets that breaks them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from lipwright_client import (
    ClientError,
    ConnectionFailedError,
    InProgressError,
    Lipwright,
    RetryPolicy,
    UnavailableError,
    UnexpectedAnswerError,
    VoiceError,
    WaitTimeoutError,
)
from lipwright_client.live_protocol import LiveEvent, encode_message
from lipwright_client.unspoken import Unspoken
from tests.unit.net.web import Send, serving

Answer = Callable[[str, dict[str, str]], bytes | None]


@contextmanager
def unruly(answer: Answer) -> Iterator[str]:
    """Serve what `answer` says to request line and headers; None ends the connection without a word."""

    def script(path: str, send: Send) -> None:
        first, *rest = web.requests[-1].partition(b"\r\n\r\n")[0].decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in rest)}
        if (said := answer(first, headers)) is not None:
            send(said)

    with serving(script) as web:
        yield web.url("")


def http(status: str, body: bytes = b"", **headers: str) -> bytes:
    """A whole answer that closes its line."""
    fields = {"content-length": str(len(body)), "connection": "close"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


JOB: dict[str, Any] = {
    **{"id": "j", "status": "queued", "stage": "queued", "progress": 0, "num_frames_done": 0, "num_frames": None},
    **{"created_at": "2026-11-25T17:00:00Z", "a_field_of_tomorrow": [1, 2]},
}
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _job(status: str = "queued", **fields: Any) -> bytes:
    return json.dumps(JOB | {"status": status} | fields).encode()


def _event(version: int, status: str) -> bytes:
    said = f"event: job\r\nid: {version}\r\ndata: ".encode() + _job(status) + b"\r\n\r\n"
    return f"{len(said):x}\r\n".encode() + said + b"\r\n"


def _problem(status: int, code: str, retryable: bool) -> bytes:
    return json.dumps({"code": code, "title": code, "detail": "d", "status": status, "retryable": retryable}).encode()


BUSY = http("503 Service Unavailable", _problem(503, "standby", True))


def test_create_lost_response_retries_with_the_same_key(tmp_path: Path) -> None:
    keys: list[str] = []

    def answer(head: str, headers: dict[str, str]) -> bytes | None:
        keys.append(headers["idempotency-key"])
        return http("202 Accepted", _job()) if len(keys) == 3 else None

    (tmp_path / "a.wav").write_bytes(b"sound")
    with unruly(answer) as url, (tmp_path / "a.wav").open("rb") as audio:
        assert Lipwright(url).jobs.create(audio=audio, video=b"film").id == "j"
    assert len(keys) == 3 and len(set(keys)) == 1


def test_create_refused_after_long_upload_is_repeated() -> None:
    answers = [http("503 Service Unavailable", _problem(503, "replica_lost", True), retry_after="0")]
    answers.append(http("202 Accepted", _job()))

    def answer(head: str, headers: dict[str, str]) -> bytes:
        time.sleep(0.3)
        return answers.pop(0)

    with unruly(answer) as url:
        retry = RetryPolicy(max_backpressure_wait_s=0.2)
        assert Lipwright(url, retry=retry).jobs.create(audio=b"sound", video=b"film").id == "j"


def test_create_unseekable_source_is_sent_once() -> None:
    heads, pieces = list[str](), [b"sound"]
    source: Any = SimpleNamespace(read=lambda size=-1: pieces.pop() if pieces else b"")
    with unruly(lambda head, headers: heads.append(head)) as url, pytest.raises(ConnectionFailedError):
        Lipwright(url).jobs.create(audio=source, video=b"film")
    assert len(heads) == 1


def test_events_reconnect_with_last_event_id() -> None:
    busy = http("503 Service Unavailable", _problem(503, "busy", True), retry_after="0")
    streams = [_event(1, "queued"), _event(2, "running"), _event(3, "succeeded")]
    answers = [busy, *(STREAM + event for event in streams)]
    asked: list[str] = []

    def answer(head: str, headers: dict[str, str]) -> bytes:
        asked.append(headers["last-event-id"])
        return answers.pop(0)

    with unruly(answer) as url:
        assert [job.status for job in Lipwright(url).jobs.events("j")] == ["queued", "running", "succeeded"]
    assert asked == ["0", "0", "1", "2"]


@pytest.mark.parametrize("said", [None, STREAM + b"0\r\n\r\n"], ids=["no answer", "empty stream"])
def test_events_silent_service_raises_after_max_silence(said: bytes | None) -> None:
    with unruly(lambda head, headers: said) as url, pytest.raises(ConnectionFailedError):
        list(Lipwright(url, retry=RetryPolicy(max_silence_s=1)).jobs.events("j"))


@pytest.mark.parametrize(
    ("said", "kind", "error"),
    [(None, "jobs", WaitTimeoutError), (BUSY, "jobs", WaitTimeoutError), (BUSY, "avatars", UnavailableError)],
)
def test_wait_unavailable_service_raises_in_time(said: bytes | None, kind: str, error: type[ClientError]) -> None:
    def answer(head: str, headers: dict[str, str]) -> bytes | None:
        if said is None:
            time.sleep(2)
        return said

    start = time.monotonic()
    with unruly(answer) as url, pytest.raises(error):
        getattr(Lipwright(url), kind).wait("a", timeout_s=0.5)
    assert time.monotonic() - start < 60 < RetryPolicy().max_backpressure_wait_s


def test_wait_host_that_drops_packets_raises_in_time() -> None:
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # beyond the backlog, the kernel answers nothing
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        start = time.monotonic()
        with pytest.raises(WaitTimeoutError):
            Lipwright(f"http://127.0.0.1:{listener.getsockname()[1]}").jobs.wait("a", timeout_s=0.5)
        assert time.monotonic() - start < 20, "without a limit, a connection is tried for 30 s"


def test_speak_busy_service_leaves_the_job() -> None:
    def answer(head: str, headers: dict[str, str]) -> bytes:
        heads.append(head)
        return http("202 Accepted", _job()) if "events" not in head else BUSY

    heads: list[str] = []
    with unruly(answer) as url, pytest.raises(UnavailableError):
        Lipwright(url, retry=RetryPolicy(max_backpressure_wait_s=0)).speak(audio=b"sound", video=b"film")
    assert [head.split()[:2] for head in heads] == [["POST", "/v1/jobs"], ["GET", "/v1/jobs/j/events"]]


def test_download_follows_the_redirect_to_a_bucket(tmp_path: Path) -> None:
    asked: list[dict[str, str]] = []

    def bucket(head: str, headers: dict[str, str]) -> bytes:
        asked.append(headers)
        return http("200 OK", b"video", etag='"1"')

    def service(head: str, headers: dict[str, str]) -> bytes:
        return http("307 Temporary Redirect", location=f"{there}/result.mp4?signature=1")

    with unruly(bucket) as there, unruly(service) as url:
        assert Lipwright(url, api_key="lw_key").jobs.download("j", tmp_path / "out.mp4") == 5
    assert len(asked) == 1 and "authorization" not in asked[0]


def test_download_broken_connection_resumes_at_its_byte(tmp_path: Path) -> None:
    video, asked = bytes(range(256)) * 8, []

    def answer(head: str, headers: dict[str, str]) -> bytes:
        start = int(headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        asked.append((start, headers.get("if-range")))
        status = "206 Partial Content" if start else "200 OK"
        whole = http(status, video[start:], etag='"1"')
        return whole if start >= 1000 else whole[: len(whole) - len(video[start:]) + 500]

    with unruly(answer) as url:
        assert Lipwright(url).jobs.download("j", tmp_path / "out.mp4") == len(video)
    assert (tmp_path / "out.mp4").read_bytes() == video
    assert asked == [(0, None), (500, '"1"'), (1000, '"1"')]


def test_download_changed_file_is_not_resumed(tmp_path: Path) -> None:
    answers = [http("200 OK", b"first" * 100, etag='"1"')[:-250], http("200 OK", b"other" * 100, etag='"2"')]
    (tmp_path / "out.mp4").write_bytes(b"old")
    with unruly(lambda head, headers: answers.pop(0)) as url, pytest.raises(ConnectionFailedError, match="changed"):
        Lipwright(url).jobs.download("j", tmp_path / "out.mp4")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("out.mp4", b"old")]


def test_delete_lost_response_is_not_an_error() -> None:
    def answer(head: str, headers: dict[str, str]) -> bytes | None:
        heads.append(head.split()[0])
        if heads[-1] == "POST":
            return http("200 OK", _job("succeeded"))
        return None if heads.count("DELETE") == 1 else http("404 Not Found", _problem(404, "not_found", False))

    heads: list[str] = []
    with unruly(answer) as url:
        Lipwright(url).jobs.delete("j")
    assert heads == ["POST", "DELETE", "DELETE"]


def test_retryable_response_is_requested_again() -> None:
    answers = [
        http("502 Bad Gateway", b"<html>", content_type="text/html"),
        http("409 Conflict", _problem(409, "request_in_progress", True), retry_after="0"),
        http("200 OK", _job()),
    ]
    with unruly(lambda head, headers: answers.pop(0)) as url:
        assert Lipwright(url).jobs.get("j").id == "j"
    answers = [http("503 Service Unavailable", _problem(503, "voice_failed", True))] * 5
    with unruly(lambda head, headers: answers.pop()) as url, pytest.raises(VoiceError):
        retry = RetryPolicy(max_reconnects=2, max_backpressure_wait_s=600)
        Lipwright(url, retry=retry).jobs.create(text="Hello", avatar_id="a")
    assert len(answers) == 2, "each attempt synthesizes the speech again"
    refusal = http("409 Conflict", _problem(409, "request_in_progress", False))
    with unruly(lambda head, headers: refusal) as url, pytest.raises(InProgressError):
        Lipwright(url).jobs.get("j")


def test_jobs_list_reads_all_pages() -> None:
    def answer(head: str, headers: dict[str, str]) -> bytes:
        query = dict(parse_qsl(urlsplit(head.split()[1]).query))
        asked.append(query)
        first, limit = int(query.get("after", 0)), int(query["limit"])
        jobs = [JOB | {"id": str(number)} for number in range(first, min(700, first + limit))]
        next_after = first + limit if first + limit < 700 else None
        return http("200 OK", json.dumps({"jobs": jobs, "next_after": next_after}).encode())

    asked: list[dict[str, str]] = []
    with unruly(answer) as url:
        client = Lipwright(url)
        assert [job.id for job in client.jobs.list(limit=1000)] == [str(number) for number in range(700)]
        assert [job.id for job in client.jobs.list(2, "queued", {"order": "17"})] == ["0", "1"]
    assert asked == [
        {"limit": "500"},
        {"limit": "500", "after": "500"},
        {"limit": "2", "status": "queued", "metadata": '{"order": "17"}'},
    ]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        *((http("200 OK", body), UnexpectedAnswerError) for body in (b"<html>hello", b"[]", b'{"id": "j"}')),
        (http("200 OK", b'{"id": 5', content_type="application/json"), UnexpectedAnswerError),
        (http("404 Not Found", b"<html>nginx"), UnexpectedAnswerError),
        (http("302 Found", location="/elsewhere"), UnexpectedAnswerError),
        (http("200 OK", b"no gzip", content_encoding="gzip"), ConnectionFailedError),
    ],
)
def test_get_answer_of_another_server_raises(said: bytes, error: type[ClientError]) -> None:
    with unruly(lambda head, headers: said) as url, pytest.raises(error):
        Lipwright(url, retry=RetryPolicy(max_reconnects=0)).jobs.get("j")


@pytest.mark.parametrize("address", ["box:8000", "http://", "ftp://box", "http://box:port"])
def test_client_invalid_url_raises(address: str) -> None:
    with pytest.raises(ConnectionError, match="Invalid service URL") as raised:
        Lipwright(address)
    assert isinstance(raised.value, ConnectionFailedError)


RATE = 1000
SECOND = bytes(range(200)) * (2 * RATE // 200)


def again(unspoken: Unspoken, **connected: object) -> list[bytes | str]:
    """What is sent after a reconnection: audio as it is, and of other messages their text or type."""
    unspoken.pause()
    unspoken.resume(connected)
    sent: list[bytes | str] = []
    while (message := unspoken.next_unsent()) is not None:
        fields = {} if isinstance(message, bytes) else json.loads(message)
        sent.append(message if isinstance(message, bytes) else fields.get("text", fields["type"]))
    return sent


def fragment(spoken_seconds: float) -> LiveEvent:
    return LiveEvent("session.fragment", {"spoken_seconds": spoken_seconds})


def ended(event_id: str) -> LiveEvent:
    return LiveEvent("agent.speak_ended", {"event_id": event_id})


def speaking(*contents: bytes | str) -> Unspoken:
    unspoken = Unspoken(RATE)
    for content in contents:
        text = content if isinstance(content, bytes) else encode_message("agent.speak_text", text=content)
        unspoken.add(encode_message("agent.speak_end") if content == "" else text)
    return unspoken


@pytest.mark.parametrize(
    ("contents", "events", "connected", "sent"),
    [
        ([SECOND, SECOND, ""], [fragment(1.25)], {}, [SECOND[500:], "agent.speak_end"]),
        ([SECOND[:20]] * 150, [], {}, [SECOND[:20] * 100, SECOND[:20] * 50]),
        (["One.", "Two.", "Three."], [fragment(0.5), ended("client-2")], {}, ["Three."]),
        (["One.", "Two."], [LiveEvent("error", {"code": "voice_failed", "event_id": "client-1"})], {}, ["Two."]),
        ([SECOND, "", SECOND[::2], ""], [], {"num_messages": 3}, ["agent.speak_end"]),
    ],
    ids=["rest of audio", "small pieces merged", "texts without end", "failed text", "same session"],
)
def test_resume_sends_unspoken_messages(
    contents: list[bytes | str], events: list[LiveEvent], connected: dict[str, Any], sent: list[bytes | str]
) -> None:
    unspoken = speaking(*contents)
    for event in events:
        unspoken.handle(event)
    assert again(unspoken, **connected) == sent


def test_resume_new_session_after_restart_counts_from_zero() -> None:
    unspoken = speaking(SECOND, SECOND, "")
    unspoken.handle(fragment(1.25))
    again(unspoken)
    unspoken.handle(fragment(0.25))
    assert again(unspoken) == [SECOND[1000:], "agent.speak_end"]


def test_resume_reports_end_of_speech_meanwhile() -> None:
    unspoken = speaking(SECOND, "")
    unspoken.handle(fragment(1.0))
    unspoken.pause()
    assert unspoken.resume({}) == "client-1"
    assert unspoken.next_unsent() is None
    unspoken = speaking("One.", "Two.")
    unspoken.pause()
    assert unspoken.resume({"num_messages": 2, "ended_event_id": "client-1"}) == "client-1"
    assert unspoken.next_unsent() is None
    assert again(unspoken) == ["Two."]


def test_interrupt_forgets_earlier_speech_and_its_count() -> None:
    unspoken = speaking(SECOND, "One.")
    unspoken.add(encode_message("agent.interrupt"))
    unspoken.add(SECOND)
    assert again(unspoken) == ["agent.interrupt", SECOND]
    for earlier in ([SECOND], []):
        unspoken = speaking(*earlier)
        unspoken.add(encode_message("agent.interrupt"))
        unspoken.add(SECOND)
        unspoken.handle(fragment(0.25))
        if earlier:
            unspoken.handle(LiveEvent("agent.speak_interrupted", {"event_id": "client-1", "spoken_seconds": 0.5}))
            unspoken.handle(fragment(0.75))
        assert again(unspoken) == [SECOND[500:]]


def test_refused_updates_and_outputs_are_not_sent_again() -> None:
    unspoken = Unspoken(RATE)
    for number in range(12):
        unspoken.add(encode_message("avatar.update", expression=str(number), **({"motion": 0.5} if not number else {})))
    unspoken.add(encode_message("output.start", url="rtmp://a"))
    for failed in ("client-12", "client-13"):
        unspoken.handle(LiveEvent("error", {"code": "option_invalid", "event_id": failed}))
    assert not unspoken.has_outputs
    unspoken.pause()
    unspoken.add(encode_message("avatar.update", expression="late"))
    assert again(unspoken, num_messages=13) == ["avatar.update"], "only what was not sent"
    unspoken.pause()
    unspoken.resume({})
    sent = []
    while (message := unspoken.next_unsent()) is not None:
        sent.append(json.loads(message))
    assert (sent[0]["motion"], [message["expression"] for message in sent[-2:]]) == (0.5, ["10", "late"])
    assert len(sent) <= 9


def test_audio_while_paused_beyond_max_seconds_is_dropped() -> None:
    unspoken = speaking(SECOND)
    unspoken.max_seconds = 1.5
    unspoken.pause()
    assert unspoken.add(SECOND) is None
    assert b"".join(piece for piece in again(unspoken) if isinstance(piece, bytes)) == SECOND[1000:] + SECOND
    assert unspoken.dropped_seconds == 0.5
