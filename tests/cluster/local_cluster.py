"""A real cluster of several nodes on this machine, beside whatever else runs here."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psutil
import yaml

from lipwright.launch.environment import NODE_SETTINGS
from tests.ports import quiet_port
from tests.waiting import wait_until

_BIN = Path(sys.executable).parent
_NODE = ("ray", "start", "--block")
_UP_S = 150.0
_COMMAND_S = 240.0
_DEPLOYED_S = 240.0
_LOOK_S = 0.5


class LocalCluster:
    """Nodes that are `ray start --block`, each in a session of its own; they have a token."""

    def __init__(self, folder: Path, repo_root: Path, metrics_period_s: float = 10.0) -> None:
        """`metrics_period_s` is the period of the metrics for Serve's autoscaler; Ray's default is ten seconds."""
        self._folder = folder
        # Ray's sockets lie there, and the path of a socket is at most 107 bytes long; moved to `folder` at the end.
        self._ray_folder = Path(tempfile.mkdtemp(prefix="ray-"))
        self._dashboard = f"http://127.0.0.1:{quiet_port()}"
        self._gcs_port = quiet_port()
        self._token = secrets.token_hex(16)
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
            # As with an installed package: `python` in PATH has Ray, and the code can be imported from anywhere.
            "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(repo_root),
            "PYTHONUNBUFFERED": "1",  # `address` and `add_node` read what `ray start` prints
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            **NODE_SETTINGS,
            "RAY_API_SERVER_ADDRESS": self._dashboard,
            "RAY_DASHBOARD_ADDRESS": self._dashboard,
            "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": str(metrics_period_s),
            "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": str(metrics_period_s),
        }
        self._nodes: list[subprocess.Popen[bytes]] = []

    def start(self, *options: str, env: Mapping[str, str] = MappingProxyType({})) -> None:
        """Start the head, node 0, with more options of `ray start`, and `env` in its environment."""
        dashboard = self._dashboard.rpartition(":")[2]
        head = ("--head", f"--port={self._gcs_port}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}")
        self._start_node(*_NODE, *head, *options, env=env)
        wait_until(lambda: self.has_ended(0) or not self.run("ray", "job", "list").returncode, _UP_S, _LOOK_S)
        assert not self.has_ended(0), "the head ended: " + self._log(0)

    def add_node(self, *options: str, env: Mapping[str, str] = MappingProxyType({})) -> int:
        """Start one more node, with `env` in its environment, and return its number once it has joined.

        Nodes of one machine share a folder of sockets, and two that start at the same time take the same names.
        """
        self._start_node(*_NODE, f"--address={self.address()}", *options, env=env)
        number = len(self._nodes) - 1
        wait_until(lambda: self.has_ended(number) or "Ray runtime started" in self._log(number), _UP_S, _LOOK_S / 5)
        assert not self.has_ended(number), f"node {number} ended: {self._log(number)}"
        return number

    def kill_node(self, number: int) -> int:
        """SIGKILL to every process of a node at once, as if its power failed; returns how many there were."""
        processes = self.processes(number)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)  # so that none sees another die
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._nodes[number].wait(60)
        return len(processes)

    def terminate_node(self, number: int) -> None:
        """SIGTERM to the command of a node, as a cluster manager ends a node; returns at once."""
        self._nodes[number].send_signal(signal.SIGTERM)

    def has_ended(self, number: int) -> bool:
        """Whether the command of a node has ended."""
        return self._nodes[number].poll() is not None

    def node_id(self, number: int) -> str:
        """Ray's ID of a node."""
        arguments = (argument for process in self.processes(number) for argument in _title(process).split())
        return next(each.partition("=")[2] for each in arguments if each.startswith("--node_id="))

    def processes(self, number: int) -> list[psutil.Process]:
        """Every process of a node: Ray's own, the replicas, and what they started."""
        session, found = self._nodes[number].pid, []
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(process.pid) == session:
                    found.append(process)
        return found

    def nodes_with(self, deployment: str) -> list[int]:
        """Numbers of the nodes on which replicas of a deployment run, one for each replica."""
        found = []
        for number, node in enumerate(self._nodes):
            if node.poll() is None:
                titles = [_title(process) for process in self.processes(number)]
                found += [number] * sum(
                    title.startswith("ray::ServeReplica") and f":{deployment}" in title for title in titles
                )
        return found

    def stop(self) -> None:
        """End the nodes, then whatever of their sessions is still there."""
        for node in reversed(self._nodes):
            node.send_signal(signal.SIGTERM)
            try:
                node.wait(3)  # with replicas it takes tens of seconds, and nothing here is worth the wait
            except subprocess.TimeoutExpired:
                node.kill()
        for number in range(len(self._nodes)):
            for process in self.processes(number):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        shutil.move(self._ray_folder, self._folder / "ray")

    def run(self, *command: str, env: Mapping[str, str] = MappingProxyType({})) -> subprocess.CompletedProcess[str]:
        """Run a command of Ray against this cluster, from a folder that is not the repository's."""
        return subprocess.run(
            [str(_BIN / command[0]), *command[1:]],
            env={**self._env, **env},
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=_COMMAND_S,
            check=False,
        )

    def submit_job(self, *entrypoint: str) -> subprocess.CompletedProcess[str]:
        """`ray job submit`, again for as long as the head's agent is not up yet."""
        dones: list[subprocess.CompletedProcess[str]] = []

        def is_submitted() -> bool:
            dones.append(self.run("ray", "job", "submit", "--", *entrypoint))
            return "No available agent" not in dones[-1].stdout + dones[-1].stderr

        wait_until(is_submitted, _UP_S, _LOOK_S)
        return dones[-1]

    def deploy(self, config: Mapping[str, Any]) -> str:
        """Deploy a Serve config, and return its URL once every stage answers and none is of an earlier config."""
        path = self._folder / "serve_config.yaml"
        path.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
        deployed = self.run("serve", "deploy", str(path))
        assert deployed.returncode == 0, deployed.stderr
        url = f"http://127.0.0.1:{config['http_options']['port']}"
        wait_until(lambda: is_ready(url) and self._runs(), _DEPLOYED_S, 0.3)
        return url

    def _runs(self) -> bool:
        """Whether all replicas of the applications are of the last config."""
        return all(each["status"] == "RUNNING" for each in self.serve_status()["applications"].values())

    def serve_status(self) -> dict[str, Any]:
        """What `serve status` prints."""
        done = self.run("serve", "status")
        assert done.returncode == 0, done.stderr
        return dict(yaml.safe_load(done.stdout))

    def _start_node(self, program: str, *options: str, env: Mapping[str, str]) -> None:
        number = len(self._nodes)
        if "--head" in options:
            options += (f"--temp-dir={self._ray_folder}", f"--ray-client-server-port={quiet_port()}")
        free = (
            "--log-color=false",
            "--min-worker-port=0",
            "--max-worker-port=0",
            f"--dashboard-agent-listen-port={quiet_port()}",
        )
        with (self._folder / f"node{number}.log").open("wb") as log:
            node = subprocess.Popen(
                [_BIN / program, *options, "--num-cpus=2", "--object-store-memory=200000000", *free],
                env={**self._env, **env},
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._nodes.append(node)

    def _log(self, number: int) -> str:
        return (self._folder / f"node{number}.log").read_text()

    def address(self) -> str:
        """Host and port of the control store; the host is Ray's choice: never loopback where there is another."""
        (host,) = [line.rpartition(":")[2].strip() for line in self._log(0).splitlines() if "Local node IP" in line]
        return f"{host}:{self._gcs_port}"


def cpu_config(repo_root: Path, **arguments: Any) -> dict[str, Any]:
    """The Serve config for CPUs on a free port, with `arguments` of the graph changed."""
    config: dict[str, Any] = yaml.safe_load((repo_root / "serve_config.cpu.yaml").read_text(encoding="utf-8"))
    config["http_options"]["port"] = quiet_port()
    config["applications"][0]["args"] |= arguments
    return config


def is_ready(url: str) -> bool:
    """Whether every stage answers."""
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}/readyz", timeout=10, trust_env=False).status_code == 200
    return False


def _title(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""
