"""Frames per second of ten jobs at once, compared with one: `python -m benchmarks.concurrent_jobs`."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from benchmarks.material import make_avatar, make_speech, num_frames_of
from benchmarks.process_tree import cpu_between, cpu_seconds
from benchmarks.render import SIZES
from benchmarks.report import print_table
from benchmarks.through_graph import create_avatar
from launch.service import private_config, running_service
from lipwright_client import Lipwright

_JOB_S = 900.0


class Throughput(NamedTuple):
    """Of jobs that were submitted at the same time."""

    frames_per_second: float
    cpu_ms_per_frame: float
    """Of all processes of the service."""


def main(
    seconds: Annotated[float, typer.Option(min=1, help="Speech of each job.")] = 12.0,
    jobs: Annotated[int, typer.Option(min=2, help="Jobs at once.")] = 10,
    rounds: Annotated[int, typer.Option(min=1, help="Repetitions of the single job; the median counts.")] = 3,
) -> None:
    """Runs one job after the other, then all at once, with a cached avatar of each size."""
    sections = []
    with (
        tempfile.TemporaryDirectory(prefix="lipwright-bench-") as name,
        running_service(private_config(Path(name) / "data")) as url,
    ):
        folder, client = Path(name), Lipwright(url)
        speech = make_speech(seconds, folder)
        for width, height in SIZES:
            avatar = create_avatar(client, make_avatar(width, height, seconds, folder))
            measure_jobs(client, avatar, make_speech(1.0, folder), 1, 1.0)  # opens files and warms caches
            alone = [measure_jobs(client, avatar, speech, 1, seconds) for _ in range(rounds)]
            single = Throughput(*map(statistics.median, zip(*alone, strict=True)))
            both = {"1": single, str(jobs): measure_jobs(client, avatar, speech, jobs, seconds)}
            sections.append([(f"{width}x{height}", num, *_cells(found, single)) for num, found in both.items()])
    print_table(("size", "jobs", "frames per second", "CPU ms per frame"), *sections)


def _cells(found: Throughput, single: Throughput) -> tuple[str, str]:
    ratio = found.frames_per_second / single.frames_per_second
    return f"{found.frames_per_second:.1f} (x {ratio:.2f})", f"{found.cpu_ms_per_frame:.1f}"


def measure_jobs(client: Lipwright, avatar: str, speech: Path, num_jobs: int, seconds: float) -> Throughput:
    """Runs jobs of so many seconds of speech at the same time."""
    before, start = cpu_seconds(), time.monotonic()
    ids = [client.jobs.create(audio=speech, avatar_id=avatar).id for _ in range(num_jobs)]
    for each in ids:
        client.jobs.wait(each, _JOB_S).check()
    num_frames = num_jobs * num_frames_of(seconds)
    spent = sum(cpu_between(before, cpu_seconds()).values())
    return Throughput(num_frames / (time.monotonic() - start), 1000 * spent / num_frames)


if __name__ == "__main__":
    typer.run(main)
