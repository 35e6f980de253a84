"""Jobs through the running service: what they cost in all processes, and what memory they hold."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.process_tree import MemoryPeaks, cpu_between, cpu_seconds

_JOB_S = 1200.0
_IDLE_S = 10.0


@dataclass(frozen=True)
class JobCost:
    """What one job cost.

    Attributes:
        num_frames: Output frames.
        wall_s: From the upload's start to the last byte ready.
        cpu_ms_per_frame: User and system time of all processes of the service.
        cpu_ms_per_frame_by_process: The same, by deployment or program.
        uss_mib: Peak unique set size by process.
        rss_mib: Peak resident set size by process.
    """

    num_frames: int
    wall_s: float
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


def create_avatar(client: httpx.Client, video: Path) -> str:
    """Analyse a presenter and return its id."""
    with video.open("rb") as file:
        answer = client.post("/v1/avatars", files={"video": (video.name, file)}).raise_for_status()
    avatar_id = str(answer.json()["id"])
    deadline = time.monotonic() + _JOB_S
    while time.monotonic() < deadline:
        avatar = client.get(f"/v1/avatars/{avatar_id}").raise_for_status().json()
        if avatar["status"] == "failed":
            raise RuntimeError(f"The presenter could not be analysed: {avatar['error']}")
        if avatar["status"] == "ready":
            return avatar_id
        time.sleep(0.2)
    raise TimeoutError(f"The presenter was not analysed within {_JOB_S:.0f} s.")


def measure_job(client: httpx.Client, avatar_id: str, audio: Path) -> JobCost:
    """Run one job of a cached presenter."""
    before, start = cpu_seconds(), time.monotonic()
    with MemoryPeaks() as peaks:
        with audio.open("rb") as file:
            job = client.post("/v1/jobs", data={"avatar_id": avatar_id}, files={"audio": (audio.name, file)}).json()
        while job["status"] not in ("succeeded", "failed", "cancelled"):
            if time.monotonic() - start > _JOB_S:
                raise TimeoutError(f"The job was not done within {_JOB_S:.0f} s.")
            time.sleep(0.2)
            job = client.get(f"/v1/jobs/{job['id']}").raise_for_status().json()
    if job["status"] != "succeeded":
        raise RuntimeError(f"The job failed: {job['error']}")
    frames = int(job["num_frames"])
    spent = {name: seconds * 1000 / frames for name, seconds in cpu_between(before, cpu_seconds()).items()}
    wall_s = time.monotonic() - start
    return JobCost(frames, wall_s, sum(spent.values()), spent, peaks.uss_mib, peaks.rss_mib)
