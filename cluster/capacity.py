"""Estimates the throughput of a cluster and its bottleneck: `python -m cluster.capacity`. See cluster/capacity.md.

Stages are stations with a number of servers, and a job brings work to each of them. The station whose servers are
busy first limits the throughput (the utilisation law of Denning and Buzen, The Operational Analysis of Queueing
Network Models, 1978); jobs queue in front of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import typer


@dataclass(frozen=True)
class Costs:
    """Costs of work, in seconds of one server.

    Attributes:
        studio_s: CPU of decoding, pasting and encoding one frame, in Studio and its decoders.
        face_s: Generating the face of one frame: CPU, or wall clock of one FaceSynthesis replica on a GPU.
        other_s: CPU of one frame in all other processes of the nodes.
        director_s: CPU of one job in the Director, without its segments.
        segment_s: CPU of one segment in the Director.
    """

    studio_s: float
    face_s: float
    other_s: float
    director_s: float
    segment_s: float


@dataclass(frozen=True)
class JobProfile:
    """A kind of job, by the length of its speech, with a cached avatar."""

    seconds: float
    fps: float = 25.0
    segment_seconds: float = 4.0

    @property
    def num_frames(self) -> float:
        """Frames of the result."""
        return self.seconds * self.fps

    @property
    def num_segments(self) -> float:
        """Segments of the result."""
        return max(1.0, self.seconds / self.segment_seconds)


@dataclass(frozen=True)
class Fleet:
    """CPU cores and GPUs of all workers together; one Director leads them.

    Without GPUs, faces are generated on the CPUs; otherwise `replicas_per_gpu` replicas of FaceSynthesis share one.
    """

    num_cores: float
    num_gpus: float = 0.0
    replicas_per_gpu: float = 2.0


@dataclass(frozen=True)
class Capacity:
    """The throughput of a fleet, and the jobs per second that each station allows."""

    jobs_per_s: float
    limits: Mapping[str, float]

    @property
    def bottleneck(self) -> str:
        """The bottleneck: the station that limits the throughput."""
        return min(self.limits, key=lambda name: self.limits[name])

    def utilisation(self, station: str) -> float:
        """Return the busy share of a station at full throughput."""
        return self.jobs_per_s / self.limits[station]

    def wait_s(self, num_before: float) -> float:
        """Return how long a job waits behind `num_before` others at full throughput."""
        return num_before / self.jobs_per_s

    def video_per_s(self, job: JobProfile) -> float:
        """Return seconds of video per second."""
        return self.jobs_per_s * job.seconds


def capacity(costs: Costs, job: JobProfile, fleet: Fleet) -> Capacity:
    """Return the throughput of a fleet with an endless queue of equal jobs."""
    cpu_s = job.num_frames * (costs.studio_s + costs.other_s)
    face_s = job.num_frames * costs.face_s
    limits = {
        "CPU": fleet.num_cores / (cpu_s + (0.0 if fleet.num_gpus else face_s)),
        "Director": 1 / (costs.director_s + job.num_segments * costs.segment_s),
    }
    if fleet.num_gpus:
        limits["GPU"] = fleet.num_gpus * fleet.replicas_per_gpu / face_s
    return Capacity(min(limits.values()), limits)


def node_minutes(capacity: Capacity, job: JobProfile, num_nodes: float) -> float:
    """Return node minutes per minute of video; multiplied by the price of a node, the cost of the video."""
    return num_nodes / capacity.video_per_s(job)


# benchmarks/results.json: two x86-64 cores without a GPU, 12 s jobs of cached avatars. At rest, the Director uses 0.015
# of a core. The rest of its 100 ms in 1.56 s is 77 ms per job: 11 ms for each of seven calls, three of them segments.
MEASURED = {
    "512x512": Costs(0.0022, 0.00117, 0.00237, 0.044, 0.011),
    "1920x1080": Costs(0.0172, 0.0026, 0.0072, 0.044, 0.011),
}
_FLEETS = {1: Fleet(8), 10: Fleet(80), 1000: Fleet(8000)}


def main(
    seconds: Annotated[float, typer.Option(help="Length of the speech of one job.")] = 60.0,
    gpu_ms_per_frame: Annotated[
        float, typer.Option(help="Milliseconds per frame of one FaceSynthesis replica on your GPU; 0 for CPUs.")
    ] = 0.0,
    gpus_per_node: Annotated[float, typer.Option(help="GPUs per node.")] = 1.0,
) -> None:
    """Print the throughput of 1, 10 and 1,000 nodes with eight cores."""
    print("size       nodes   jobs/s  video s/s  bottleneck     CPU    GPU  Director  node min/min")
    for size, measured in MEASURED.items():
        for num_nodes, fleet in _FLEETS.items():
            costs, job = measured, JobProfile(seconds)
            if gpu_ms_per_frame:
                costs = replace(measured, face_s=gpu_ms_per_frame / 1000)
                fleet = replace(fleet, num_gpus=num_nodes * gpus_per_node)
            _print_row(size, num_nodes, capacity(costs, job, fleet), job)


def _print_row(size: str, num_nodes: int, found: Capacity, job: JobProfile) -> None:
    cpu, gpu, director = (
        f"{found.utilisation(name):6.0%}" if name in found.limits else "     -" for name in ("CPU", "GPU", "Director")
    )
    print(
        f"{size:10} {num_nodes:5} {found.jobs_per_s:8.2f} {found.video_per_s(job):10.1f}  {found.bottleneck:10} {cpu} "
        f"{gpu}    {director}  {node_minutes(found, job, num_nodes):12.3f}"
    )


if __name__ == "__main__":
    typer.run(main)
