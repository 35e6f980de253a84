"""Frames per second of ten jobs at once, compared with one: `python -m benchmarks.cpu_profile.concurrent_jobs`."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.material import make_avatar, make_speech, num_frames_of
from benchmarks.process_tree import cpu_between, cpu_seconds
from benchmarks.render import SIZES
from benchmarks.through_graph import create_avatar
from launch.service import running_service
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
    """Run one job after the other, then all at once, with a cached avatar of each size."""
    table = Table("size", "jobs", "frames per second", "CPU ms per frame")
    with (
        tempfile.TemporaryDirectory(prefix="lipwright-bench-") as name,
        running_service(data_dir=Path(name) / "data") as url,
    ):
        folder, client = Path(name), Lipwright(url)
        speech = make_speech(seconds, folder)
        for width, height in SIZES:
            avatar = create_avatar(client, make_avatar(width, height, seconds, folder))
            _measure(client, avatar, make_speech(1.0, folder), 1, 1.0)  # opens files and warms caches
            alone = [_measure(client, avatar, speech, 1, seconds) for _ in range(rounds)]
            single = Throughput(*map(statistics.median, zip(*alone, strict=True)))
            for num, measured in ((1, single), (jobs, _measure(client, avatar, speech, jobs, seconds))):
                share = measured.frames_per_second / single.frames_per_second
                table.add_row(
                    f"{width}x{height}",
                    str(num),
                    f"{measured.frames_per_second:.1f} (x {share:.2f})",
                    f"{measured.cpu_ms_per_frame:.1f}",
                )
    Console().print(table)


def _measure(client: Lipwright, avatar: str, speech: Path, num_jobs: int, seconds: float) -> Throughput:
    before, start = cpu_seconds(), time.monotonic()
    ids = [client.jobs.create(audio=speech, avatar_id=avatar).id for _ in range(num_jobs)]
    for each in ids:
        client.jobs.wait(each, _JOB_S).check()
    num_frames = num_jobs * num_frames_of(seconds)
    spent = sum(cpu_between(before, cpu_seconds()).values())
    return Throughput(num_frames / (time.monotonic() - start), 1000 * spent / num_frames)


if __name__ == "__main__":
    typer.run(main)
