"""Files in the text of a body: base64 and data URLs, in JSON and in forms, in pieces of any size."""

from __future__ import annotations

import base64
import json
import tracemalloc
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.forms.json_body import JsonBody
from storage.file_keys import job_file_key, upload_key
from storage.file_store import FileStore
from tests.unit.api_server import MAX_UPLOAD_BYTES, MemoryService
from tests.unit.on_disk import on_disk

AUDIO = b"RIFF" + bytes(range(256)) * 30
VIDEO = bytes(range(255, -1, -1)) * 40
FILES = ("audio", "video")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _ways(content: bytes) -> dict[str, str]:
    text = _base64(content)
    return {
        "plain": text,
        "data URL": f"data:audio/wav;name=a.wav;base64,{text}",
        "capital letters": f"DATA:;BASE64,{text}",
        "url-safe": text.replace("+", "-").replace("/", "_"),
        "without padding": text.rstrip("="),
        "in lines": base64.encodebytes(content).decode(),
    }


@pytest.mark.parametrize("way", _ways(AUDIO))
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/videos"])
def test_a_json_body_holds_the_files(http: httpx.Client, service: MemoryService, way: str, path: str) -> None:
    avatar = "video" if path == "/v1/jobs" else "input_reference"
    body = {"audio": _ways(AUDIO)[way], "loop": "hold", avatar: _base64(VIDEO)}
    answer = http.post(path, json=body)
    assert answer.is_success, answer.text
    (request,) = service.requests
    assert on_disk(service.files, job_file_key(request.job_id)).read_bytes() == AUDIO
    assert request.video is not None and request.options.loop == "hold"
    assert on_disk(service.files, upload_key(request.video.key)).read_bytes() == VIDEO


def test_a_form_holds_a_data_url(http: httpx.Client, service: MemoryService) -> None:
    for audio in (AUDIO, b"RIFFshort"):
        text = _ways(audio)["data URL"]
        answer = http.post("/v1/jobs", files={"video": ("v.mp4", VIDEO), "audio": (None, text)})
        assert answer.status_code == 202, answer.text
        assert on_disk(service.files, job_file_key(service.requests[-1].job_id)).read_bytes() == audio


@pytest.mark.parametrize(
    ("fields", "status", "code", "named"),
    [
        ({"audio": "speech.wav"}, 422, "input_invalid", "audio: expected a file or a URL"),
        ({"audio": "/etc/passwd"}, 422, "input_invalid", "audio: expected a file or a URL"),
        ({"audio": _base64(AUDIO) + "?"}, 422, "input_invalid", "audio"),
        ({"audio": _base64(b"a") + _base64(AUDIO)}, 422, "input_invalid", "audio"),
        ({"audio": "data:audio/wav," + "x" * 5000}, 422, "input_invalid", "not base64"),
        ({"audio": "data:" + "x" * 5000}, 422, "input_invalid", "comma"),
        ({"audio": "data:;base64,"}, 422, "media_invalid", "audio: the file is empty"),
        ({"audio": _base64(bytes(MAX_UPLOAD_BYTES + 1))}, 413, "media_too_large", "audio"),
        ({"audio_url": "http://10.0.0.1/a.wav"}, 422, "option_invalid", "audio: sent more than once"),
        ({"face": "x" * 1_200_000}, 422, "input_invalid", "without its files"),
        ({"colour": _base64(AUDIO)}, 422, "option_invalid", "colour"),
        ({"face": {"audio": "x"}}, 422, "option_invalid", "face"),
    ],
)
def test_unusable_files(
    http: httpx.Client, service: MemoryService, fields: dict[str, Any], status: int, code: str, named: str
) -> None:
    body = {"audio": _base64(AUDIO), "video": _base64(VIDEO), **fields}
    answer = http.post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert named in answer.json()["detail"]
    assert service.uploads() == [], "a refused request leaves no file"


def test_the_largest_file_fits(http: httpx.Client, service: MemoryService) -> None:
    largest = bytes(MAX_UPLOAD_BYTES)
    files = dict.fromkeys(("audio", "video", "face_image"), _base64(largest))
    answer = http.post("/v1/jobs", json=files)
    assert answer.status_code == 202, answer.text
    (asked,) = service.asked
    assert asked.num_bytes is not None and asked.num_bytes <= asked.max_bytes


@pytest.mark.parametrize("body", [b'{"audio": "data:;base64,UklG', b'{"audio": "UklG\\u00"}', b'["audio"]', b"", b'"x'])
def test_a_body_that_is_no_object(http: httpx.Client, service: MemoryService, body: bytes) -> None:
    answer = http.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "input_invalid"), answer.text
    assert service.uploads() == []


def test_pieces_of_any_size(tmp_path: Path) -> None:
    files = FileStore(tmp_path)
    fields = {'a"\\b': '"}:,{', "audio": _base64(AUDIO), "inner": {"audio": ["x", {"video": "é"}]}, "face": "\u2028\n"}
    escaped = {"PHP": "\\/", "escaped": "\\u002f"}
    for escape in escaped.values():
        text = json.dumps({**fields, "video": _base64(VIDEO)}).replace("/", escape).encode()
        for size in (1, 2, 3, 5, 64, 1001, len(text)):
            body = JsonBody(FILES, files, 100_000)
            for at in range(0, len(text), size):
                body.feed(text[at : at + size])
            found, made = body.finish()
            assert found == {**fields, "audio": "", "video": ""}
            for name, content in (("audio", AUDIO), ("video", VIDEO)):
                assert on_disk(files, upload_key(made[name].key)).read_bytes() == content


def test_a_large_file_is_never_held_whole(tmp_path: Path) -> None:
    num_bytes = 24_000_000
    piece = base64.b64encode(bytes(300_000))
    body = JsonBody(FILES, FileStore(tmp_path), num_bytes)
    tracemalloc.start()
    body.feed(b'{"audio": "data:audio/wav;base64,')
    for _ in range(num_bytes // 300_000):
        body.feed(piece)
    body.feed(b'"}')
    _, made = body.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made["audio"].num_bytes == num_bytes
    assert peak < 4_000_000
