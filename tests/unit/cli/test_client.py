"""The client of the command line: what it does when a service has no room for it."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

from cli.client import Client
from config import JobConfig
from storage.records import JobOptions, SubmitRequest, new_id
from tests.unit.api_server import MemoryService, serving


def test_a_follower_who_finds_no_place_comes_again(tmp_path: Path) -> None:
    service = MemoryService(tmp_path)
    writer = service.files.new_upload("a.wav")
    writer.write(b"sound")
    request = SubmitRequest(
        job_id=new_id(), audio=writer.finish(), avatar_id="0" * 32, options=JobOptions(engine="warp")
    )
    with serving(service, jobs=JobConfig(max_followers=1)) as url:
        job = asyncio.run(service.submit(request))
        first = Client(url).follow(job.id)
        assert next(first)["status"] == "queued"
        seen: list[str] = []
        second = threading.Thread(target=lambda: seen.extend(one["status"] for one in Client(url).follow(job.id)))
        second.start()
        time.sleep(0.5)  # it is told to come again in five seconds
        service.finish(job.id)
        assert list(first)[-1]["status"] == "succeeded"
        second.join(30)
        assert seen == ["succeeded"]
