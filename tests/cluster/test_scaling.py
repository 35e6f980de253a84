"""Workers that join are used: replicas follow the work, and three workers do nearly three times as much as one.

Faces cost time and no processor here (`paced_graph`), so this says what the graph, its queues and Serve's autoscaler
make of more nodes. It leaves open what real work costs on real machines: cores that decode, a network between nodes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.media_files import read_wav, wav_bytes
from tests.cluster.local_cluster import LocalCluster, cpu_config
from tests.cluster.paced_graph import SECONDS_PER_FRAME
from tests.faults.load import Caller, Pair
from tests.waiting import wait_until

UP_S, JOBS_S = 180.0, 900.0
NUM_JOBS, NUM_REPEATS = 20, 3  # of 34 frames each; of a speech of 125 frames
PER_WORKER = {"Studio": 2, "FaceSynthesis": 2}
QUICK = {"upscale_delay_s": 1, "downscale_delay_s": 3600, "look_back_period_s": 2, "target_ongoing_requests": 1.5}
RENDER = {"segment_seconds": 0.64, "first_segment_seconds": 0.32, "chunk_frames": 8, "segments_per_studio": 3}

pytestmark = [pytest.mark.slow, pytest.mark.endurance]


def add_worker(cluster: LocalCluster) -> None:
    cluster.add_node('--resources={"worker": 1}', "--num-gpus=1")


@dataclass(frozen=True)
class Running:
    """Lipwright on a head that answers, encodes audio and plans, and one worker that decodes and generates."""

    cluster: LocalCluster
    caller: Caller

    def work_until_spread(self, pair: Pair, num_workers: int) -> None:
        """Give it work until each worker has all the replicas that fit on it."""
        ids = [self.caller.accepted(pair) for _ in range(4 * num_workers)]
        wait_until(lambda: all(self._is_spread(name, num_workers) for name in PER_WORKER), UP_S, 0.5)
        self.caller.wait(ids, JOBS_S)

    def _is_spread(self, name: str, num_workers: int) -> bool:
        nodes = Counter(self.cluster.nodes_with(name))
        return len(nodes) == num_workers and set(nodes.values()) == {PER_WORKER[name]}

    def seconds_for(self, pairs: list[Pair]) -> float:
        """Wall clock until all of these jobs have ended well."""
        started = time.monotonic()
        ids = [self.caller.accepted(pair) for pair in pairs]
        final = self.caller.wait(ids, JOBS_S)
        took_s = time.monotonic() - started
        assert {job["status"] for job in final.values()} == {"succeeded"}, final
        return took_s


def config_of(repo_root: Path, data_dir: Path) -> dict[str, Any]:
    """The twin for CPUs with faces that cost time, scaled by the work: two halves of a GPU a worker."""
    config = cpu_config(repo_root)
    (application,) = config["applications"]
    application["import_path"] = "tests.cluster.paced_graph:build"
    jobs = {"max_running_jobs": 4, "running_jobs_per_studio": 2}
    application["args"] = {"data_dir": str(data_dir), "engine": "paced", "render": RENDER, "jobs": jobs}
    for deployment in application["deployments"]:
        name, options = deployment["name"], deployment["ray_actor_options"]
        options["num_cpus"] = 0.1
        options["resources"] = {"worker": 0.01} if name in PER_WORKER else {"head": 0.01}
        if name in PER_WORKER:
            del deployment["num_replicas"]
            deployment |= {"max_ongoing_requests": 2, "max_replicas_per_node": 2}
            deployment["autoscaling_config"] = {"min_replicas": 1, "max_replicas": 6, **QUICK}
        if name == "FaceSynthesis":
            options["num_gpus"] = 0.5
    return config


@pytest.fixture
def running(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Iterator[Running]:
    cluster = LocalCluster(tmp_path_factory.mktemp("s"), repo_root, metrics_period_s=1)
    try:
        cluster.start('--resources={"head": 1}')
        add_worker(cluster)
        url = cluster.deploy(config_of(repo_root, tmp_path_factory.mktemp("data")))
        yield Running(cluster, Caller(url, patience_s=UP_S))
    finally:
        cluster.stop()


@pytest.mark.timeout(2400)
def test_three_workers_do_nearly_three_times_as_much(
    running: Running, sample_video: Path, samples: Path, sample_speech: Path, tmp_path: Path
) -> None:
    video = sample_video.read_bytes()
    short = Pair(video, (samples / "speech_short.wav").read_bytes())
    speech, rate = read_wav(sample_speech)
    long = Pair(video, wav_bytes(np.tile(speech, NUM_REPEATS), rate))
    took: dict[int, tuple[float, float]] = {}
    for num_workers in (1, 3):
        for _ in range(num_workers - 1):
            add_worker(running.cluster)
        running.work_until_spread(short, num_workers)
        took[num_workers] = running.seconds_for([short] * NUM_JOBS), running.seconds_for([long])
    (many_1, long_1), (many_3, long_3) = took[1], took[3]
    print(
        f"\nthree workers: {NUM_JOBS} jobs {many_1:.1f} s -> {many_3:.1f} s, {many_1 / many_3:.2f} times; "
        f"one long job {long_1:.1f} s -> {long_3:.1f} s, {long_1 / long_3:.2f} times; {SECONDS_PER_FRAME} s a frame"
    )
    assert many_1 / many_3 >= 2.7
    assert long_1 / long_3 >= 2.4
