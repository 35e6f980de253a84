"""A client of HeyGem against the real graph."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import av
import httpx
import pytest

DEADLINE_S = 120.0
POLL_S = 0.1


@pytest.fixture
def temp(heygem_root: Path, portrait: Path, speech: Path) -> Path:
    folder = heygem_root / "temp"
    folder.mkdir(exist_ok=True)
    shutil.copy(portrait, folder / "face.jpg")
    shutil.copy(speech, folder / "talk.wav")
    return folder


def _submit(client: httpx.Client, **fields: object) -> str:
    code = str(uuid4())
    body = {"audio_url": "talk.wav", "video_url": "face.jpg", "code": code, "chaofen": 0, "pn": 1, **fields}
    answer = client.post("/easy/submit", content=json.dumps(body)).json()
    assert (answer["code"], answer["msg"]) == (10000, 10000), answer
    return code


def _until_ended(client: httpx.Client, code: str) -> list[dict[str, Any]]:
    """What a polling client gets, up to the final answer."""
    answers: list[dict[str, Any]] = []
    deadline = time.monotonic() + DEADLINE_S
    while not answers or answers[-1]["status"] == 1:
        assert time.monotonic() < deadline, answers[-1]
        answer = client.get("/easy/query", params={"code": code}).json()
        assert answer["code"] == 10000, answer
        answers.append(answer["data"])
        time.sleep(POLL_S)
    return answers


def test_a_heygem_client_gets_its_video(client: httpx.Client, temp: Path) -> None:
    code = _submit(client, watermark_switch=1)
    answers = _until_ended(client, code)
    done = answers[-1]
    assert (done["status"], done["msg"], done["result"]) == (2, "任务完成", f"/{code}-r.mp4"), done
    percents = [task["progress"] for task in answers]
    assert percents == sorted(percents) and percents[-1] == 100
    assert any(20 < percent < 90 for percent in percents), percents
    with av.open(f"{temp}{done['result']}") as container:
        assert container.streams.video[0].frames > 25
        assert container.streams.audio
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    for frame in (frames[0], frames[-1]):
        height, width = frame.shape
        assert (frame[height * 9 // 10 :, width // 2 :] > 220).any(axis=0).mean() > 0.2, "letters of the visible mark"
    assert client.get("/easy/download", params={"code": code}).content == Path(f"{temp}/{code}-r.mp4").read_bytes()
    assert _until_ended(client, code) == [done], "the same answer each time"
