"""Jobs by the dozen: submit, wait, and look at what came out."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx

from tests.manifest_box import without_manifest
from tests.threads import Repeating
from tests.waiting import wait_until

IS_ENDURANCE = os.environ.get("LIPWRIGHT_ENDURANCE") == "1"
"""Whether the long forms run (`make test-faults`); the ordinary suite runs the same with fewer jobs."""
LOAD_MINUTES = float(os.environ.get("LIPWRIGHT_LOAD_MINUTES", "10"))
"""How long the tests of steady load run, each."""
FINAL = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Pair:
    """What a job is made of."""

    video: bytes
    audio: bytes


class Caller:
    """A client that comes again when the line breaks, as a careful one does."""

    def __init__(self, url: str, patience_s: float = 60.0, api_key: str | None = None) -> None:
        self.url = url
        self._patience_s = patience_s
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request, sent again while the service cannot be reached or says that it is restarting."""
        deadline = time.monotonic() + self._patience_s
        options["headers"] = self._headers | options.get("headers", {})
        while True:
            try:
                # Without `verify=False`, each request reads all root certificates, which takes 10 ms.
                answer = httpx.request(
                    method, f"{self.url}{path}", timeout=30, trust_env=False, verify=False, **options
                )
                if answer.status_code < 500 or time.monotonic() > deadline:
                    return answer
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.3)

    def submit(self, pair: Pair, key: str | None = None, **fields: str) -> httpx.Response:
        """Send a job; with an idempotency key it may be sent again without harm."""
        files = {"video": ("face.jpg", pair.video), "audio": ("speech.wav", pair.audio)}
        headers = {"Idempotency-Key": key} if key else {}
        return self.request("POST", "/v1/jobs", files=files, data=fields, headers=headers)

    def accepted(self, pair: Pair, key: str | None = None, **fields: str) -> str:
        """Send a job that has to be accepted, and return its id."""
        answer = self.submit(pair, key, **fields)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def rendering(self, pair: Pair, timeout_s: float = 120.0) -> str:
        """A new job that has rendered its first segment, and has more."""
        job_id = self.accepted(pair)
        wait_until(lambda: self.job(job_id)["num_frames_done"] or self.job(job_id)["status"] in FINAL, timeout_s)
        assert self.job(job_id)["num_frames_done"], self.job(job_id)
        return job_id

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as it is now."""
        return dict(self.request("GET", f"/v1/jobs/{job_id}").raise_for_status().json())

    def wait(self, job_ids: Iterable[str], timeout_s: float) -> dict[str, dict[str, Any]]:
        """All jobs once each is final."""
        deadline = time.monotonic() + timeout_s
        waiting, final = set(job_ids), {}
        while waiting:
            for job_id in list(waiting):
                job = self.job(job_id)
                if job["status"] in FINAL:
                    final[job_id] = job
                    waiting.discard(job_id)
            assert not waiting or time.monotonic() < deadline, f"after {timeout_s} s: {len(waiting)} jobs not final"
            time.sleep(0.2)
        return final

    def result(self, job_id: str, timeout_s: float = 200.0) -> str:
        """Digest of the video of a job, which has to succeed."""
        assert self.wait([job_id], timeout_s)[job_id]["error"] is None
        return digest(self.video(job_id))

    def video(self, job_id: str) -> bytes:
        """The finished video."""
        return self.request("GET", f"/v1/jobs/{job_id}/video").raise_for_status().content


def submit_all(caller: Caller, pairs: Iterable[Pair], num_at_once: int = 8) -> list[httpx.Response]:
    """Send all pairs, several at a time; answers in order."""
    with ThreadPoolExecutor(num_at_once) as pool:
        return list(pool.map(lambda item: caller.submit(item[1], key=f"job-{item[0]}"), enumerate(pairs)))


def digest(video: bytes) -> str:
    """Short name of these bytes, without the manifest, which is signed for each result."""
    return hashlib.sha256(without_manifest(video)).hexdigest()[:16]


def num_frames(video: bytes) -> int:
    """Frames in the file."""
    with av.open(io.BytesIO(video), "r") as container:
        return len(list(container.decode(video=0)))


class ResultWatch:
    """Sees each result file appear, and whether one is ever written again."""

    def __init__(self, data_dir: Path) -> None:
        self._jobs = data_dir / "jobs"
        self._seen: dict[str, set[tuple[int, int]]] = {}

    def look(self) -> None:
        """Note the results of now."""
        for path in self._jobs.glob("*/result.mp4"):
            status = path.stat()
            self._seen.setdefault(path.parent.name, set()).add((status.st_ino, status.st_mtime_ns))

    def num_writings(self) -> Counter[int]:
        """How many results were written how often."""
        return Counter(len(times) for times in self._seen.values())


class SegmentWatch(Repeating):
    """Sees each segment file of a data folder appear, and each result, and whether one is ever written again."""

    period_s = 0.02

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._times: dict[tuple[str, int], set[int]] = {}
        self.results = ResultWatch(data_dir)

    def look(self) -> None:
        self.results.look()
        for path in self._data_dir.glob("jobs/*/segments/[0-9]*.mp4"):
            with suppress(FileNotFoundError):
                segment = path.parents[1].name, int(path.stem)
                self._times.setdefault(segment, set()).add(path.stat().st_mtime_ns)

    def written_again(self, segments: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Those of these segments, by job and number, that were seen newly written more than once."""
        return [segment for segment in segments if len(self._times.get(segment, ())) > 1]
