"""Jobs through the running service: what they cost in all processes, and what memory they hold."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.process_tree import MemoryPeaks, cpu_between, cpu_seconds
from cli.client import Client

_ANALYSIS_S = 600.0
_IDLE_S = 10.0


@dataclass(frozen=True)
class JobCost:
    """What one job cost.

    Attributes:
        num_frames: Output frames.
        wall_s: From the upload's start to the last byte ready.
        first_segment_s: From the upload's start to the first finished segment.
        cpu_ms_per_frame: User and system time of all processes of the service.
        cpu_ms_per_frame_by_process: The same, by deployment or program.
        uss_mib: Peak unique set size by process.
        rss_mib: Peak resident set size by process.
    """

    num_frames: int
    wall_s: float
    first_segment_s: float
    cpu_ms_per_frame: float
    cpu_ms_per_frame_by_process: dict[str, float]
    uss_mib: dict[str, float]
    rss_mib: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Plain numbers, rounded to what the measurement carries."""
        return {
            key: {name: round(number, 2) for name, number in sorted(value.items()) if number >= 0.01}
            if isinstance(value, dict)
            else round(value, 2)
            for key, value in asdict(self).items()
        }


def idle_cpu_share() -> float:
    """CPU seconds a second of all processes of the service while nothing is asked of it."""
    before = cpu_seconds()
    time.sleep(_IDLE_S)
    return sum(cpu_between(before, cpu_seconds()).values()) / _IDLE_S


def create_avatar(client: Client, video: Path) -> str:
    """Analyse a presenter and return its id."""
    with video.open("rb") as file:
        answer = client.request("POST", "/v1/avatars", files={"video": (video.name, file)})
    avatar_id = str(answer.json()["id"])
    deadline = time.monotonic() + _ANALYSIS_S
    while time.monotonic() < deadline:
        avatar = client.request("GET", f"/v1/avatars/{avatar_id}").json()
        if avatar["status"] == "failed":
            raise RuntimeError(f"The presenter could not be analysed: {avatar['error']}")
        if avatar["status"] == "ready":
            return avatar_id
        time.sleep(0.5)
    raise TimeoutError(f"The presenter was not analysed within {_ANALYSIS_S:.0f} s.")


def measure_job(client: Client, avatar_id: str, audio: Path, engine: str = "warp") -> JobCost:
    """Run one job of a cached presenter, followed by its events: asking for its state would cost CPU time too."""
    before, start, first_s = cpu_seconds(), time.monotonic(), 0.0
    with MemoryPeaks() as peaks:
        with audio.open("rb") as file:
            files = {"audio": (audio.name, file)}
            accepted = client.request(
                "POST", "/v1/jobs", data={"avatar_id": avatar_id, "engine": engine}, files=files
            ).json()
        job: dict[str, Any] = accepted
        for seen in client.follow(accepted["id"]):
            job = seen
            if job["num_frames_done"] and not first_s:
                first_s = time.monotonic() - start
    if job["status"] != "succeeded":
        raise RuntimeError(f"The job failed: {job['error']}")
    wall_s, frames = time.monotonic() - start, int(job["num_frames"])
    spent = {name: seconds * 1000 / frames for name, seconds in cpu_between(before, cpu_seconds()).items()}
    return JobCost(frames, wall_s, first_s, sum(spent.values()), spent, peaks.uss_mib, peaks.rss_mib)
