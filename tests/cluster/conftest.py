"""Clusters of several nodes, and what is deployed on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.local_cluster import LocalCluster, cpu_config


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
def serve_config(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> dict[str, Any]:
    """The config for CPUs, with a data folder and port of its own and a Studio on each of the two nodes."""
    config = cpu_config(repo_root, data_dir=str(tmp_path_factory.mktemp("data")))
    (studio,) = [each for each in config["applications"][0]["deployments"] if each["name"] == "Studio"]
    studio |= {"num_replicas": 2, "max_replicas_per_node": 1}
    return config
