"""Nodes that share no disk: files in a bucket, the table in a PostgreSQL, and a node dies in the middle of a job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from lipwright.config import PipelineConfig
from lipwright.storage.file_keys import result_key, segment_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.state import open_store, open_table
from tests.cluster.local_cluster import LocalCluster, cpu_config
from tests.faults.load import Caller, Pair, digest, num_frames
from tests.postgres import PostgresServer
from tests.s3_server import S3Server

UP_S, JOB_S = 240.0, 240.0
RENDER = {"block_seconds": 2.0, "segment_seconds": 0.8, "first_segment_seconds": 0.4, "segment_window": 2}

pytestmark = [pytest.mark.slow, pytest.mark.endurance]


@dataclass(frozen=True)
class Running:
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
def running(
    tmp_path_factory: pytest.TempPathFactory, repo_root: Path, postgres: PostgresServer, s3: S3Server
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("b")
    arguments = {
        "data_dir": str(folder / "data"),
        "state": postgres.new_database(),
        "files": s3.new_bucket(),
        "bucket": {"redirects": True},
        "render": RENDER,
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
    running = Running(cluster, caller, files, table, folder)
    try:
        cluster.start('--resources={"head": 1}', env=running.env("head"))
        running.add_worker("first")
        cluster.deploy(config)
        yield running
    finally:
        cluster.stop()
        table.close()


@pytest.mark.timeout(900)
def test_a_job_goes_on_at_a_node_that_has_none_of_its_files(
    running: Running, sample_video: Path, sample_speech: Path
) -> None:
    pair = Pair(sample_video.read_bytes(), sample_speech.read_bytes())
    caller, stored = running.caller, running.files.stored
    job_id = caller.accepted(pair)
    folder, deadline = f"jobs/{job_id}/segments", time.monotonic() + JOB_S
    # What nobody has noted yet is made again, so files alone say nothing.
    while len(noted := running.table.finished_segments(job_id)) < 2:
        assert time.monotonic() < deadline, caller.job(job_id)
        time.sleep(0.1)
    assert running.cluster.kill_node(1)
    names = {segment_key(job_id, record.number).rpartition("/")[2] for record in noted}
    made = {name: changed_at for name, changed_at in stored.entries(folder).items() if name in names}
    assert not running.files.has(result_key(job_id)), "it is killed in the middle"
    running.add_worker("second")
    while caller.job(job_id)["status"] not in ("succeeded", "failed"):
        assert time.monotonic() < deadline, caller.job(job_id)
        time.sleep(0.3)
        again = stored.entries(folder)
        made = {name: changed_at for name, changed_at in made.items() if again.get(name, changed_at) == changed_at}
    job = caller.job(job_id)
    assert job["status"] == "succeeded", job
    assert len(made) >= 2, "segments that were finished are not made again"
    url = f"{caller.url}/v1/jobs/{job_id}/video"
    streamed = httpx.get(url, params={"download": "true"}, timeout=60, trust_env=False).raise_for_status()
    redirected = httpx.get(url, follow_redirects=True, timeout=60, trust_env=False).raise_for_status()
    assert [answer.status_code for answer in redirected.history] == [307]
    assert num_frames(streamed.content) == job["num_frames"]
    assert digest(streamed.content) == digest(redirected.content)
    assert {"source", "audio"} <= running.fetched("first") & running.fetched("second")
    assert not (running.folder / "data" / "jobs").exists(), "nothing lies in a folder that they would share"
    assert httpx.delete(f"{caller.url}/v1/jobs/{job_id}", timeout=60, trust_env=False).status_code == 200
    assert stored.entries(f"jobs/{job_id}") == {}
