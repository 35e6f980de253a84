"""Clusters of several nodes, and what is deployed on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.local_cluster import LocalCluster
from tests.ports import quiet_port


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Iterator[LocalCluster]:
    """A head and a second node."""
    # Ray puts sockets under its temporary folder, and their paths are bounded to some 100 characters.
    running = LocalCluster(tmp_path_factory.mktemp("c"), repo_root, metrics_period_s=1)
    try:
        running.start()
        running.add_node()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def http_port() -> int:
    return quiet_port()


@pytest.fixture(scope="module")
def serve_config(tmp_path_factory: pytest.TempPathFactory, repo_root: Path, http_port: int) -> Path:
    """The twin for CPUs, with a data folder and port of its own and a Studio on each of the two nodes."""
    config = yaml.safe_load((repo_root / "serve_config.cpu.yaml").read_text(encoding="utf-8"))
    config["http_options"]["port"] = http_port
    (application,) = config["applications"]
    application["args"]["data_dir"] = str(tmp_path_factory.mktemp("data"))
    (studio,) = [deployment for deployment in application["deployments"] if deployment["name"] == "Studio"]
    studio |= {"num_replicas": 2, "max_replicas_per_node": 1}
    path = tmp_path_factory.mktemp("config") / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path
