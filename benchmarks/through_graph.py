"""Measures jobs of a running service: CPU time and memory of all its processes."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.material import num_frames_of
from benchmarks.process_tree import MemoryPeaks, cpu_between, cpu_seconds
from lipwright_client import Lipwright

_ANALYSIS_S, _JOB_S = 600.0, 900.0
IDLE_S = 10.0  # of watching an idle service


@dataclass(frozen=True)
class JobCost:
    """Cost of one job.

    Attributes:
        num_frames: Output frames.
        wall_s: From the start of the upload to the finished result.
        first_segment_s: From the start of the upload to the first finished segment.
        cpu_ms_per_frame: User and system time of all processes of the service.
        cpu_ms_per_frame_by_process: The same, by deployment or program.
        uss_mib: Peak unique set size by process, if memory was sampled.
        rss_mib: Peak resident set size by process, if memory was sampled.
    """

    num_frames: int
    wall_s: float
    first_segment_s: float
    cpu_ms_per_frame: float
    cpu_ms_per_frame_by_process: dict[str, float]
    uss_mib: dict[str, float]
    rss_mib: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Returns plain numbers, rounded to the precision of the measurement."""
        return {
            key: {name: round(number, 2) for name, number in sorted(value.items()) if number >= 0.01}
            if isinstance(value, dict)
            else round(value, 2)
            for key, value in asdict(self).items()
        }


class Throughput(NamedTuple):
    """Of jobs that were submitted at the same time."""

    frames_per_second: float
    cpu_ms_per_frame: float
    """Of all processes of the service."""


def idle_cpu_share() -> float:
    """Returns the CPU seconds per second of all processes while the service is idle."""
    before = cpu_seconds()
    time.sleep(IDLE_S)
    return sum(cpu_between(before, cpu_seconds()).values()) / IDLE_S


def create_avatar(client: Lipwright, video: Path) -> str:
    """Analyses an avatar and returns its id."""
    avatar = client.avatars.wait(client.avatars.create(video=video).id, _ANALYSIS_S)
    if avatar.status == "failed":
        raise RuntimeError(f"The avatar could not be analysed: {avatar.error}")
    return avatar.id


def measure_job(client: Lipwright, avatar_id: str, audio: Path, watches_memory: bool = False) -> JobCost:
    """Runs one job of a cached avatar and follows its events, because polling would cost CPU time.

    Sampling the memory costs a fifth of a core and delays the sampled processes.
    """
    peaks = MemoryPeaks()
    before, start, first_s = cpu_seconds(), time.monotonic(), 0.0
    with peaks if watches_memory else nullcontext():
        job = client.jobs.create(audio=audio, avatar_id=avatar_id)
        for seen in client.jobs.events(job.id):
            job = seen
            if job.num_frames_done and not first_s:
                first_s = time.monotonic() - start
    wall_s, frames = time.monotonic() - start, job.check().num_frames or 0
    spent = {name: seconds * 1000 / frames for name, seconds in cpu_between(before, cpu_seconds()).items()}
    return JobCost(frames, wall_s, first_s, sum(spent.values()), spent, peaks.uss_mib, peaks.rss_mib)


def measure_jobs(client: Lipwright, avatar: str, speech: Path, num_jobs: int, seconds: float) -> Throughput:
    """Runs jobs of so many seconds of speech at the same time."""
    before, start = cpu_seconds(), time.monotonic()
    ids = [client.jobs.create(audio=speech, avatar_id=avatar).id for _ in range(num_jobs)]
    for each in ids:
        client.jobs.wait(each, _JOB_S).check()
    num_frames = num_jobs * num_frames_of(seconds)
    spent = sum(cpu_between(before, cpu_seconds()).values())
    return Throughput(num_frames / (time.monotonic() - start), 1000 * spent / num_frames)
