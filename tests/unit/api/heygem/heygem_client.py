"""A service with the HeyGem routes enabled, a data root with inputs in it, and a client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from config import HeygemConfig, NetworkConfig
from tests.unit.api_server import MemoryService, api_client

AUDIO = b"RIFF" + bytes(5000)
VIDEO = b"mp4!" + bytes(9000)
KEYS = {"code", "data", "msg", "success"}


class HeygemClient:
    """Calls `/easy/*`, and checks what every answer has in common."""

    def __init__(self, http: httpx.Client, service: MemoryService, root: Path) -> None:
        self.http = http
        self.service = service
        self.root = root

    def submit(self, code: str = "task-1", **fields: Any) -> dict[str, Any]:
        body = {"audio_url": "talk.wav", "video_url": "face.mp4", "code": code, **fields}
        return self.answer(self.http.post("/easy/submit", content=json.dumps(body)))

    def query(self, code: str = "task-1") -> dict[str, Any]:
        return self.answer(self.http.get("/easy/query", params={"code": code}))

    def task(self, code: str = "task-1") -> dict[str, Any]:
        """The `data` of an answer that knows the task."""
        answer = self.query(code)
        assert (answer["code"], answer["msg"], answer["success"]) == (10000, "", True), answer
        data: dict[str, Any] = answer["data"]
        assert data.keys() >= {"code", "status", "progress", "result", "msg"}
        assert data["code"] == code and type(data["status"]) is type(data["progress"]) is int
        return data

    def job_id(self, number: int = -1) -> str:
        return self.service.requests[number].job_id

    @staticmethod
    def answer(response: httpx.Response) -> dict[str, Any]:
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        assert answer.keys() == KEYS
        assert type(answer["code"]) is int and type(answer["success"]) is bool and isinstance(answer["data"], dict)
        return answer


@contextmanager
def heygem_service(
    tmp_path: Path, network: NetworkConfig | None = None, has_root: bool = True, **settings: Any
) -> Iterator[HeygemClient]:
    """Serve with `heygem` settings; `talk.wav` and `face.mp4` lie in the root's `temp`."""
    root = tmp_path / "root"
    (root / "temp").mkdir(parents=True)
    (root / "temp" / "talk.wav").write_bytes(AUDIO)
    (root / "temp" / "face.mp4").write_bytes(VIDEO)
    service = MemoryService(tmp_path / "data")
    heygem = HeygemConfig(enabled=True, root=root if has_root else None, **settings)
    with api_client(service, network, heygem=heygem) as http:
        yield HeygemClient(http, service, root)
