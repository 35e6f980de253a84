"""Nodes die or are drained under the work, with and without a shared disk: every accepted job finishes."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from config import PipelineConfig
from lipwright_client import Lipwright
from storage.file_keys import result_key, segment_key
from storage.file_store import FileStore
from storage.job_table import JobTable
from storage.state import open_store, open_table
from tests.cluster.local_cluster import LocalCluster, cpu_config
from tests.faults.load import FINAL, Caller, Pair, SegmentWatch, digest, num_frames
from tests.faults.service_process import is_ready
from tests.postgres import PostgresServer
from tests.s3_server import S3Server
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

# tests/faults/test_kills.py kills replicas in the ordinary suite.
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
    with sqlite3.connect(f"file:{data_dir / 'jobs.sqlite3'}?mode=ro", uri=True) as table:
        return set(table.execute("SELECT job_id, number FROM segments WHERE status = 'done'"))


@pytest.mark.timeout(400 + 120 * NUM_DEATHS)
def test_jobs_outlive_the_nodes_that_they_run_on(running: Running, sample_pair: Pair) -> None:
    cluster = running.cluster
    quiet = running.caller.video(running.caller.completed(sample_pair, JOBS_S)["id"])
    (director,) = cluster.nodes_with("Director")
    (other,) = {1, 2} - {director}

    def kill(node: int, what: str) -> str:
        return f"{what}, {cluster.kill_node(node)} processes"

    for number in range(NUM_DEATHS):
        lost = (other, director)[number % 2]
        what = f"node death {number + 1}: {('a node without the Director', 'its node')[number % 2]}"
        _disturb(running, sample_pair, quiet, partial(kill, lost, what))
        director = director if lost == other else other
        assert cluster.nodes_with("Director") == [director]
        if number + 1 < NUM_DEATHS:
            other = cluster.add_node(WORKER, env=DRAIN_ENV)
            _wait_for_workers(running, 2)


def _disturb(running: Running, pair: Pair, quiet: bytes, disturb: Callable[[], str], keeps_all: bool = False) -> None:
    """Have something happen in the middle of some jobs, and check that each comes to the end of a quiet run.

    Segments that were finished before are not made again; with `keeps_all`, none is made twice.
    """
    with SegmentWatch(running.data_dir) as watch:
        before = _finished(running.data_dir)
        ids = [running.caller.accepted(pair) for _ in range(NUM_JOBS)]
        wait_until(lambda: len(_finished(running.data_dir) - before) >= 3, JOBS_S, 0.02)
        what = disturb()
        finished = _finished(running.data_dir) - before
        disturbed_at = time.monotonic()
        final = running.caller.wait(ids, JOBS_S)
        took_s = time.monotonic() - disturbed_at
    print(f"\n{what}, {len(finished)} segments finished; {NUM_JOBS} jobs done {took_s:.1f} s later")
    assert not {job_id: job["error"] for job_id, job in final.items() if job["status"] != "succeeded"}
    for job_id in ids:
        video = running.caller.video(job_id)
        assert num_frames(video) == final[job_id]["num_frames"] == num_frames(quiet)
        assert digest(video) == digest(quiet)
    watch.results.look()
    assert not watch.written_again(_finished(running.data_dir) - before if keeps_all else finished)
    assert set(watch.results.num_writings()) == {1}, "no job was run to the end twice"
    assert any(job_id in ids for job_id, _ in finished)


def _wait_for_workers(running: Running, num_workers: int) -> None:
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
def test_drained_nodes_lose_no_work(running: Running, sample_video: Path, sample_pair: Pair) -> None:
    """One node by `lipwright drain`, the next by SIGTERM; each has a successor."""
    cluster = running.cluster
    quiet = running.caller.video(running.caller.completed(sample_pair, JOBS_S)["id"])
    with Lipwright(running.caller.url) as client:
        avatar = client.avatars.wait(client.avatars.create(video=sample_video).id, JOBS_S).check().id

    def drain(node: int) -> str:
        begin = time.monotonic()
        if node == 1:
            command = ("lipwright", "drain", cluster.node_id(node), "--timeout", str(DRAIN_S))
            done = cluster.run(*command, env={"RAY_ADDRESS": cluster.address()})
            assert done.returncode == 0, done.stderr
        cluster.terminate_node(node)  # `ray start --block` goes on without its raylet
        wait_until(lambda: cluster.has_ended(node), DRAIN_S, 0.2)
        return f"drain: the node ended after {time.monotonic() - begin:.1f} s"

    for node in (1, 2):
        cluster.add_node(WORKER, env=DRAIN_ENV)
        with LiveSession(running.caller.url, avatar) as session:
            _disturb(running, sample_pair, quiet, partial(drain, node), keeps_all=True)
        gap_s = session.longest_gap_s
        print(f"live: reconnected {session.num_reconnected} times, at most {gap_s:.2f} s without a picture")


BUCKET_RENDER = {"block_seconds": 2.0, "segment_seconds": 0.8, "first_segment_seconds": 0.4, "segment_window": 2}


@dataclass(frozen=True)
class InBucket:
    """Lipwright on a head that answers and looks at inputs, and a worker that does all else."""

    cluster: LocalCluster
    caller: Caller
    files: FileStore
    table: JobTable
    folder: Path

    def add_worker(self, name: str) -> int:
        return self.cluster.add_node('--resources={"worker": 1}', env=self.env(name))

    def env(self, name: str) -> dict[str, str]:
        """Of a node that has what it fetches in a folder of its own."""
        return {"LIPWRIGHT_CACHE_DIR": str(self.folder / name)}

    def fetched(self, name: str) -> set[str]:
        return {path.name for path in (self.folder / name / "files").glob("*/*")}


@pytest.fixture
def in_bucket(
    tmp_path_factory: pytest.TempPathFactory, repo_root: Path, postgres: PostgresServer, s3: S3Server
) -> Iterator[InBucket]:
    folder = tmp_path_factory.mktemp("b")
    arguments = {
        "data_dir": str(folder / "data"),
        "state": postgres.new_database(),
        "files": s3.new_bucket(),
        "bucket": {"redirects": True},
        "render": BUCKET_RENDER,
    }
    config = cpu_config(repo_root, **arguments)
    for deployment in config["applications"][0]["deployments"]:
        place = "head" if deployment["name"] in ("Ingress", "MediaProbe", "LiveSession") else "worker"
        deployment["ray_actor_options"]["resources"] = {place: 0.01}
    settings = PipelineConfig.model_validate(arguments | {"data_dir": folder / "test"})
    files = open_store(settings)
    table = open_table(settings.state, files)
    caller = Caller(f"http://127.0.0.1:{config['http_options']['port']}", patience_s=UP_S)
    cluster = LocalCluster(tmp_path_factory.mktemp("n"), repo_root)
    in_bucket = InBucket(cluster, caller, files, table, folder)
    try:
        cluster.start('--resources={"head": 1}', env=in_bucket.env("head"))
        in_bucket.add_worker("first")
        cluster.deploy(config)
        yield in_bucket
    finally:
        cluster.stop()
        table.close()


@pytest.mark.timeout(900)
def test_a_job_goes_on_at_a_node_that_has_none_of_its_files(in_bucket: InBucket, sample_pair: Pair) -> None:
    caller, files = in_bucket.caller, in_bucket.files
    job_id = caller.accepted(sample_pair)
    # What nobody has noted yet is made again, so files alone say nothing.
    wait_until(lambda: len(in_bucket.table.finished_segments(job_id)) >= 2, JOBS_S, 0.1)
    noted = in_bucket.table.finished_segments(job_id)
    assert in_bucket.cluster.kill_node(1)
    names = {segment_key(job_id, record.number).rpartition("/")[2] for record in noted}

    def segments() -> dict[str, float]:
        return dict(files.stored.entries(f"jobs/{job_id}/segments"))

    made = {name: changed_at for name, changed_at in segments().items() if name in names}
    assert not files.has(result_key(job_id)), "it is killed in the middle"
    in_bucket.add_worker("second")

    def is_final() -> bool:
        again = segments()
        for name, changed_at in list(made.items()):
            if again.get(name, changed_at) != changed_at:
                del made[name]
        return caller.job(job_id)["status"] in FINAL

    wait_until(is_final, JOBS_S, 0.3)
    job = caller.job(job_id)
    assert job["status"] == "succeeded", job
    assert len(made) >= 2, "segments that were finished are not made again"
    url = f"{caller.url}/v1/jobs/{job_id}/video"
    streamed = httpx.get(url, params={"download": "true"}, timeout=60, trust_env=False).raise_for_status()
    redirected = httpx.get(url, follow_redirects=True, timeout=60, trust_env=False).raise_for_status()
    assert [answer.status_code for answer in redirected.history] == [307]
    assert num_frames(streamed.content) == job["num_frames"]
    assert digest(streamed.content) == digest(redirected.content)
    assert {"source", "audio"} <= in_bucket.fetched("first") & in_bucket.fetched("second")
    assert not (in_bucket.folder / "data" / "jobs").exists(), "nothing lies in a folder that they would share"
    assert httpx.delete(f"{caller.url}/v1/jobs/{job_id}", timeout=60, trust_env=False).status_code == 200
    assert files.stored.entries(f"jobs/{job_id}") == {}
