"""A real cluster of two nodes on this machine, beside whatever else runs here."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from service import free_port

_BIN = Path(sys.executable).parent
_UP_S = 60.0
_COMMAND_S = 75.0
_LOOK_S = 0.5


class LocalCluster:
    """A head and a second node, each `ray start --block` in a session of its own, with a token of their own."""

    def __init__(self, folder: Path, repo_root: Path) -> None:
        self._folder = folder
        self._dashboard = f"http://127.0.0.1:{free_port()}"
        self._token = secrets.token_hex(16)
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
            # As with an installed package: `python` in PATH has Ray, and the code can be imported from anywhere.
            "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(repo_root),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_API_SERVER_ADDRESS": self._dashboard,
            "RAY_DASHBOARD_ADDRESS": self._dashboard,
        }
        self._nodes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start both nodes; the second may still be joining afterwards."""
        gcs, dashboard = free_port(), self._dashboard.rpartition(":")[2]
        self._start_node("--head", f"--port={gcs}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}")
        deadline = time.monotonic() + _UP_S
        while self.run("ray", "job", "list").returncode:
            assert self._nodes[0].poll() is None, "the head ended: " + (self._folder / "node0.log").read_text()
            assert time.monotonic() < deadline, (self._folder / "node0.log").read_text()
            time.sleep(_LOOK_S)
        self._start_node(f"--address={self._address_of_head()}:{gcs}")

    def stop(self) -> None:
        """End the nodes, then whatever of their sessions is still there."""
        sessions = {node.pid for node in self._nodes}
        for node in reversed(self._nodes):
            node.send_signal(signal.SIGTERM)
            try:
                node.wait(3)  # with replicas it takes tens of seconds, and nothing here is worth the wait
            except subprocess.TimeoutExpired:
                node.kill()
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) in sessions:
                    process.kill()
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Ray against this cluster, from a folder that is not the repository's."""
        return subprocess.run(
            [str(_BIN / command[0]), *command[1:]],
            env=self._env,
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=_COMMAND_S,
            check=False,
        )

    def submit_job(self, *entrypoint: str) -> subprocess.CompletedProcess[str]:
        """`ray job submit`, again for as long as the head's agent is not up yet."""
        deadline = time.monotonic() + _UP_S
        while True:
            done = self.run("ray", "job", "submit", "--", *entrypoint)
            if "No available agent" not in done.stdout + done.stderr or time.monotonic() > deadline:
                return done
            time.sleep(_LOOK_S)

    def serve_status(self) -> dict[str, Any]:
        """What `serve status` prints."""
        done = self.run("serve", "status")
        assert done.returncode == 0, done.stderr
        return dict(yaml.safe_load(done.stdout))

    def _start_node(self, *options: str) -> None:
        number = len(self._nodes)
        if "--head" in options:
            options += (f"--temp-dir={self._folder / 'ray'}", f"--ray-client-server-port={free_port()}")
        free = (
            "--log-color=false",
            "--min-worker-port=0",
            "--max-worker-port=0",
            f"--dashboard-agent-listen-port={free_port()}",
        )
        with (self._folder / f"node{number}.log").open("wb") as log:
            node = subprocess.Popen(
                [_BIN / "ray", "start", "--block", "--num-cpus=2", "--object-store-memory=200000000", *free, *options],
                env=self._env,
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._nodes.append(node)

    def _address_of_head(self) -> str:
        """Ray's choice of this machine's address: never loopback where there is another."""
        lines = (self._folder / "node0.log").read_text().splitlines()
        (found,) = [line.rpartition(":")[2].strip() for line in lines if "Local node IP" in line]
        return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Iterator[LocalCluster]:
    # Ray puts sockets under its temporary folder, and their paths are bounded to some 100 characters.
    running = LocalCluster(tmp_path_factory.mktemp("c"), repo_root)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def http_port() -> int:
    return free_port()


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
