"""Nodes die or are drained under the work: every accepted job finishes, with the bytes of a quiet run."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import pytest

from lipwright_client import Lipwright
from tests.cluster.local_cluster import LocalCluster, cpu_config, is_ready
from tests.faults.load import Caller, Pair, SegmentWatch, digest, num_frames
from tests.waiting import wait_until

UP_S, JOBS_S = 180.0, 300.0
NUM_JOBS = 6
NUM_DEATHS = 16
DRAIN_S = 240.0
DRAIN_ENV = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(DRAIN_S)}
WORKER = '--resources={"worker": 1}'
ON_EVERY_WORKER = ("AudioFeatures", "LandmarkGenerator", "Studio", "FaceSynthesis")
# Short pieces, so that calls between all stages are on their way, from node to node, whenever a node dies.
RENDER = {"block_seconds": 2.0, "segment_seconds": 1.5, "segment_window": 2}

# test_bucket.py kills the node of the Director, tests/faults/test_kills.py replicas, in the ordinary suite.
pytestmark = [pytest.mark.slow, pytest.mark.endurance]


@dataclass(frozen=True)
class Running:
    """Lipwright on a head that only answers callers, and two workers that do the work."""

    cluster: LocalCluster
    caller: Caller
    data_dir: Path


@pytest.fixture(params=["head"])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, repo_root: Path
) -> Iterator[Running]:
    """The parameter says where the API runs."""
    data_dir = tmp_path_factory.mktemp("data")
    cluster = LocalCluster(tmp_path_factory.mktemp("n"), repo_root)
    try:
        cluster.start('--resources={"head": 1}')
        for _ in range(2):
            cluster.add_node(WORKER, env=DRAIN_ENV)
        url = cluster.deploy(_config(repo_root, data_dir, request.param))
        running = Running(cluster, Caller(url, patience_s=UP_S), data_dir)
        _wait_for_workers(running, 2)
        yield running
    finally:
        cluster.stop()


def _config(repo_root: Path, data_dir: Path, api_node: str) -> dict[str, Any]:
    """The twin for CPUs: the API on the head or on each worker, the Director on a worker, all else on each."""
    config = cpu_config(repo_root, data_dir=str(data_dir), render=RENDER)
    for deployment in config["applications"][0]["deployments"]:
        place = api_node if deployment["name"] == "Ingress" else "worker"
        deployment["ray_actor_options"]["resources"] = {place: 0.01}
        if deployment["name"] in ON_EVERY_WORKER or (deployment["name"] == "Ingress" and api_node == "worker"):
            deployment |= {"num_replicas": 2, "max_replicas_per_node": 1}
    return config


def _finished(data_dir: Path) -> set[tuple[str, int]]:
    """Job and number of each segment that the table has as done."""
    with sqlite3.connect(f"file:{data_dir / 'jobs.sqlite3'}?mode=ro", uri=True) as table:
        return set(table.execute("SELECT job_id, number FROM segments WHERE status = 'done'"))


@pytest.mark.timeout(400 + 120 * NUM_DEATHS)
def test_jobs_outlive_the_nodes_that_they_run_on(running: Running, sample_video: Path, sample_speech: Path) -> None:
    pair = Pair(sample_video.read_bytes(), sample_speech.read_bytes())
    first = running.caller.accepted(pair)
    assert running.caller.wait([first], JOBS_S)[first]["status"] == "succeeded"
    quiet = running.caller.video(first)
    (director,) = running.cluster.nodes_with("Director")
    (other,) = {1, 2} - {director}
    for number in range(NUM_DEATHS):
        if number % 2 == 0:
            _lose_node(running, other, pair, quiet, f"{number + 1}: a node without the Director")
            assert running.cluster.nodes_with("Director") == [director]
        else:
            _lose_node(running, director, pair, quiet, f"{number + 1}: the Director's node")
            assert running.cluster.nodes_with("Director") == [other]
            director = other
        if number + 1 < NUM_DEATHS:
            other = running.cluster.add_node(WORKER, env=DRAIN_ENV)
            _wait_for_workers(running, 2)


def _lose_node(running: Running, node: int, pair: Pair, quiet: bytes, what: str) -> None:
    """Kill a node in the middle of some jobs, and check that each comes to the end of a quiet run."""
    with SegmentWatch(running.data_dir) as watch:
        before = _finished(running.data_dir)
        ids = [running.caller.accepted(pair) for _ in range(NUM_JOBS)]
        wait_until(lambda: len(_finished(running.data_dir) - before) >= 3, JOBS_S, 0.02)
        num_killed = running.cluster.kill_node(node)
        finished = _finished(running.data_dir) - before
        killed_at = time.monotonic()
        final = running.caller.wait(ids, JOBS_S)
        took_s = time.monotonic() - killed_at
    print(
        f"\nnode death: {what}, {num_killed} processes, {len(finished)} segments finished; "
        f"{NUM_JOBS} jobs done {took_s:.1f} s later"
    )
    assert not {job_id: job["error"] for job_id, job in final.items() if job["status"] != "succeeded"}
    for job_id in ids:
        video = running.caller.video(job_id)
        assert num_frames(video) == final[job_id]["num_frames"] == num_frames(quiet)
        assert digest(video) == digest(quiet)
    watch.results.look()
    assert not watch.written_again(finished), "segments that were finished are not made again"
    assert set(watch.results.num_writings()) == {1}, "no job was run to the end twice"
    assert any(job_id in ids for job_id, _ in finished)


def _wait_for_workers(running: Running, num_workers: int) -> None:
    """Wait until each worker has a replica of what runs on all of them, and every stage answers."""

    def is_spread() -> bool:
        spread = [Counter(running.cluster.nodes_with(name)) for name in ON_EVERY_WORKER]
        return all(len(nodes) == num_workers for nodes in spread) and is_ready(running.caller.url)

    wait_until(is_spread, UP_S, 0.3)


class LiveSession:
    """An idle live session, whose client reconnects."""

    def __init__(self, url: str, avatar_id: str) -> None:
        self.arrivals: list[float] = []
        self.num_reconnected = 0
        self._url, self._avatar_id = url, avatar_id
        self._stop, self._thread = threading.Event(), threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: len(self.arrivals) > 5, JOBS_S)
        return self

    def __exit__(self, *_: object) -> None:
        seen = len(self.arrivals)
        wait_until(lambda: len(self.arrivals) > seen + 5 or not self._thread.is_alive(), JOBS_S)
        self._stop.set()
        self._thread.join(JOBS_S)

    @property
    def longest_gap_s(self) -> float:
        return max(after - before for before, after in pairwise(self.arrivals))

    def _watch(self) -> None:
        with Lipwright(self._url) as client, client.live(self._avatar_id) as live:
            for event in live:
                if event.type == "session.fragment":
                    self.arrivals.append(time.monotonic())
                self.num_reconnected += event.raw.get("state") == "reconnecting"
                if self._stop.is_set():
                    return


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("running", ["worker"], indirect=True)
def test_drained_nodes_lose_no_work(running: Running, sample_video: Path, sample_speech: Path) -> None:
    """One node by `lipwright drain`, the next by SIGTERM; each has a successor."""
    cluster, pair = running.cluster, Pair(sample_video.read_bytes(), sample_speech.read_bytes())
    first = running.caller.accepted(pair)
    assert running.caller.wait([first], JOBS_S)[first]["status"] == "succeeded"
    quiet = running.caller.video(first)
    with Lipwright(running.caller.url) as client:
        avatar = client.avatars.wait(client.avatars.create(video=sample_video).id, JOBS_S).check().id

    def drain_by_command(node: int) -> None:
        command = ("lipwright", "drain", cluster.node_id(node), "--timeout", str(DRAIN_S))
        done = cluster.run(*command, env={"RAY_ADDRESS": cluster.address()})
        assert done.returncode == 0, done.stderr
        cluster.terminate_node(node)  # `ray start --block` goes on without its raylet

    for node, drain in ((1, drain_by_command), (2, cluster.terminate_node)):
        cluster.add_node(WORKER, env=DRAIN_ENV)
        with LiveSession(running.caller.url, avatar) as session:
            _drain_node(running, node, drain, pair, quiet)
        gap_s = session.longest_gap_s
        print(f"live: reconnected {session.num_reconnected} times, at most {gap_s:.2f} s without a picture")


def _drain_node(running: Running, node: int, drain: Callable[[int], None], pair: Pair, quiet: bytes) -> None:
    """Drain a node in the middle of some jobs, and check that each is rendered once, as in a quiet run."""
    with SegmentWatch(running.data_dir) as watch:
        before = _finished(running.data_dir)
        ids = [running.caller.accepted(pair) for _ in range(NUM_JOBS)]
        wait_until(lambda: len(_finished(running.data_dir) - before) >= 3, JOBS_S, 0.02)
        begin = time.monotonic()
        drain(node)
        wait_until(lambda: running.cluster.has_ended(node), DRAIN_S, 0.2)
        took_s = time.monotonic() - begin
        final = running.caller.wait(ids, JOBS_S)
    segments = _finished(running.data_dir) - before
    print(f"\ndrain: the node ended after {took_s:.1f} s; {len(segments)} segments of {NUM_JOBS} jobs")
    assert Counter(job["status"] for job in final.values()) == {"succeeded": NUM_JOBS}
    assert {digest(running.caller.video(job_id)) for job_id in ids} == {digest(quiet)}
    assert watch.written_again(segments) == []
