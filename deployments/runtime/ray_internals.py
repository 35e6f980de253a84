"""Every use of Ray's private API, checked against Ray 2.60: look here first when Ray is upgraded."""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
import ray
import ray._private.node
import ray._private.parameter
import ray.actor
from pydantic import ValidationError
from ray._private.ray_logging import global_worker_stdstream_dispatcher

from errors import ConfigError
from jobs.status import ReplicaStatus

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

logger = logging.getLogger(__name__)

_PING_PERIOD_S: Final = 5.0
_FORK_S: Final = 5.0

RAY_WORKER_SCRIPT: Final = Path(ray.__file__).parent / "_private" / "workers" / "default_worker.py"
"""What the raylet starts as a worker."""

# `ray.serve` takes a second to import. `launch` uses this module before it has Ray's processes start in that second.


def prefer_local_replicas(handle: DeploymentHandle[Any]) -> DeploymentHandle[Any]:
    """Make a handle that was not used yet route to replicas on this node first, and to others when those are full.

    Crops then stay in the memory of one machine where possible. Serve 2.60 has no public option for it.
    """
    handle._init(_prefer_local_routing=True)
    return handle


def start_node(worker_script: Path | None = None, **options: Any) -> None:
    """Start a Ray node on this machine and connect to it.

    Args:
        worker_script: What the raylet starts as a worker, with the arguments of `RAY_WORKER_SCRIPT`; None starts that.
        options: Options of `ray.init`.
    """
    # By default a fixed port, for which the agent waits for 3 s if another Ray on this machine uses it.
    # No monitor: it only serves Ray's autoscaler, and prints what is pending. No API server: only Ray's dashboard and
    # state commands use it.
    parameters: dict[str, Any] = {"dashboard_agent_listen_port": 0, "no_monitor": True}
    if worker_script is not None:
        parameters["worker_path"] = str(worker_script)
    with (
        _replaced(ray._private.parameter, "RayParams", partial(ray._private.parameter.RayParams, **parameters)),
        _replaced(ray._private.node.Node, "start_api_server", lambda *_, **__: None),
    ):
        ray.init(address="local", namespace="serve", include_dashboard=False, configure_logging=False, **options)


@contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Replace an attribute of a module or class during the block."""
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextmanager
def ids_of_classes_from_system() -> Iterator[None]:
    """Draw the ids of actor classes that are defined in the block from the operating system.

    Ray's own generator is seeded when it is used first. Processes that are forked later would all draw the same ids,
    also of tasks and objects. Of all that is imported before workers are forked, only actor classes draw ids.
    """
    with _replaced(ray.actor, "ActorClassID", _SystemRandomClassID):
        yield


class _SystemRandomClassID:
    @staticmethod
    def from_random() -> ray.ActorClassID:
        return ray.ActorClassID(os.urandom(ray.ActorClassID.size()))


def draws_own_ids() -> bool:
    """Return whether two forks of this process draw different ids; see `ids_of_classes_from_system`.

    A fork that draws none within `_FORK_S` counts as one that does not: it may wait for a lock that the fork copied.
    """
    first, second = _id_of_fork(), _id_of_fork()
    return b"" not in (first, second) and first != second


def _id_of_fork() -> bytes:
    """Return the id that a fork of this process draws, or nothing if it draws none in time."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.write(writing, ray.WorkerID.from_random().binary())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb", buffering=0) as answer:
        drawn = answer.read(ray.WorkerID.size()) if select.select([answer], [], [], _FORK_S)[0] else b""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return drawn


def session_name() -> str:
    """Return the name of the Ray session, which contains its start time."""
    return str(_global_node().session_name)


def replica_counts() -> dict[str, ReplicaStatus]:
    """Return the replicas of each deployment of this replica's application. Blocks until Serve's controller answers."""
    from ray import serve
    from ray.serve._private.common import DeploymentStatus, ReplicaState

    application = serve.status().applications.get(serve.get_replica_context().app_name)
    if application is None:
        return {}
    found: dict[str, ReplicaStatus] = {}
    for name, deployment in application.deployments.items():
        num_running = deployment.replica_states.get(ReplicaState.RUNNING, 0)
        found[name] = ReplicaStatus(
            num_running=num_running,
            num_other=sum(deployment.replica_states.values()) - num_running,
            is_healthy=deployment.status is not DeploymentStatus.UNHEALTHY,
        )
    return found


def deploy(config: dict[str, Any]) -> None:
    """Start Serve and deploy `config`, as `serve run` does with a file. Returns before the replicas run.

    Raises:
        ConfigError: `config` is not a valid Serve config.
    """
    from ray.serve._private.api import serve_start
    from ray.serve.schema import ServeDeploySchema

    try:
        schema = ServeDeploySchema.model_validate(config)
    except ValidationError as error:
        raise ConfigError(f"Invalid Serve config: {error}") from error
    client = serve_start(http_options=schema.http_options.model_dump(), proxy_location=schema.proxy_location)
    client.deploy_apps(schema, _blocking=False)


def redirect_worker_output(write: Callable[[Mapping[str, Any]], None]) -> None:
    """Pass what workers print to `write` instead of printing it in this process. Call it after `ray.init`.

    A thread of Ray calls it with a dict: "lines", "pid", and "actor_name" or "task_name" if there is one.
    """
    global_worker_stdstream_dispatcher.remove_handler("ray_print_logs")
    global_worker_stdstream_dispatcher.add_handler("ray_print_logs", write)  # the name that `ray.shutdown` removes


class LocalNode:
    """The processes of the Ray node that this process started with `ray.init`."""

    def __init__(self) -> None:
        self._node = _global_node()
        self._ping: ray.ObjectRef[None] | None = None
        self._pinged_at = time.monotonic()

    def dead_processes(self) -> list[tuple[str, int]]:
        """Return the name and exit status of each of the node's processes that has ended, such as "raylet"."""
        return [(name, process.returncode) for name, process in self._node.dead_processes()]

    def kill(self) -> None:
        """Kill all processes of the node."""
        self._node.kill_all_processes(check_alive=False, allow_graceful=False)

    def controller_silence_s(self) -> float:
        """Return for how many seconds Serve's controller has not answered; 0 before it is started. Does not block."""
        from ray.serve import context

        silence_s = time.monotonic() - self._pinged_at
        try:
            if self._ping is not None and not ray.wait([self._ping], timeout=0)[0]:
                return silence_s
            self._ping = None
            if context._global_client is not None and silence_s >= _PING_PERIOD_S:
                self._pinged_at = time.monotonic()
                self._ping = context._global_client._controller.check_alive.remote()
        except Exception as error:  # Ray's processes are ending, which `dead_processes` reports
            logger.warning("could not ask whether Serve's controller is alive: %r", error)
        return 0.0

    def restart_controller(self) -> None:
        """Kill the process of Serve's controller, also a stopped one; Ray starts another one, which continues."""
        self._ping, self._pinged_at = None, time.monotonic()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::ServeController"):
                    process.kill()


def _global_node() -> Any:
    return ray._private.worker._global_node  # set by ray.init and in every worker
