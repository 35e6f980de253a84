"""Every use of Ray's private API, checked against Ray 2.60: look here first when Ray is upgraded."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import psutil
import ray
import ray._private.node
import ray._private.parameter
import ray._private.services
from pydantic import ValidationError
from ray._private import ray_constants
from ray.experimental import internal_kv

from lipwright.api.validation_message import describe
from lipwright.errors import ConfigError, StateError, UnavailableError
from lipwright.jobs.requests import ReplicaStatus

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

logger = logging.getLogger(__name__)

_PING_PERIOD_S: Final = 5.0
_LOG_PERIOD_S: Final = 1.0
_LOG_STOP_S: Final = 5.0
_NODE_START_S: Final = 180.0
_NODE_POLL_S: Final = 0.2
_GCS_S: Final = 5.0
_NO_SERVER: Final = "127.0.0.1:9"  # the discard service of RFC 863, which nobody runs

# Python code that runs the script `sys.argv[1]`, and has the kernel kill this process when the raylet ends.
_RUN_WITH_RAYLET: Final = (
    "import runpy, sys; from ray._private.utils import set_kill_on_parent_death_linux; "
    "set_kill_on_parent_death_linux(); del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
)

# `ray.serve` takes a second to import. `launch` uses this module before it has Ray's processes start in that second.


def prefer_local_replicas(handle: DeploymentHandle[Any]) -> DeploymentHandle[Any]:
    """Make a handle that was not used yet route to replicas on this node first, and to others when those are full.

    Crops then stay in the memory of one machine where possible. Serve 2.60 has no public option for it.
    """
    handle._init(_prefer_local_routing=True)
    return handle


def free_chained_references() -> None:
    """Free the references that routers hold to arguments of chained calls, each of which keeps its object in the store.

    A router waits for such an argument with `ObjectRef._ready`, whose callback refers to itself and to the reference.
    Python's collector finds this cycle, but its next full collection may be minutes away. Serve excludes everything
    that a replica has loaded at start from collections, so this one takes a few milliseconds.
    """
    gc.collect()


def start_node(**options: Any) -> None:
    """Start a Ray node on this machine and connect to it.

    Args:
        options: Options of `ray.init`.
    """
    # By default a fixed port, for which the agent waits for 3 s if another Ray on this machine uses it.
    # No monitor: it only serves Ray's autoscaler, and prints what is pending. No API server: only Ray's dashboard and
    # state commands use it.
    # For the log monitor, see `worker_output`.
    parameters: dict[str, Any] = {"dashboard_agent_listen_port": 0, "no_monitor": True, "include_log_monitor": False}
    with (
        _node_parameters(**parameters),
        _replace_attribute(ray._private.node.Node, "start_api_server", lambda *_, **__: None),
        _agents_end_with_raylet(),
        _patient_node_start(),
    ):
        ray.init(
            address="local",
            namespace="serve",
            include_dashboard=False,
            configure_logging=False,
            log_to_driver=False,
            **options,
        )
    # Ray's agent asks for the address of the API server once a second, and logs a traceback each time, until it gets
    # one. It would only send events there, and there are none.
    internal_kv._internal_kv_put(
        ray_constants.DASHBOARD_ADDRESS, _NO_SERVER, namespace=ray_constants.KV_NAMESPACE_DASHBOARD
    )


def _node_parameters(**parameters: Any) -> AbstractContextManager[None]:
    """Set parameters of nodes that are started in the block."""
    module = ray._private.parameter
    return _replace_attribute(module, "RayParams", partial(module.RayParams, **parameters))


def _patient_node_start() -> AbstractContextManager[None]:
    """Make a node that is started in the block wait `_NODE_START_S` for its raylet instead of Ray's 30 s."""
    services = ray._private.services
    get_node: Callable[..., Any] = services.get_node

    def wait_for_node(*arguments: Any, **options: Any) -> Any:
        deadline = time.monotonic() + _NODE_START_S
        while True:
            try:
                return get_node(*arguments, **options)
            except RuntimeError:  # the raylet has not registered yet
                if time.monotonic() > deadline:
                    raise
            time.sleep(_NODE_POLL_S)

    return _replace_attribute(services, "get_node", wait_for_node)


def _agents_end_with_raylet() -> AbstractContextManager[None]:
    """Make the agents of a raylet that is started in the block end with it.

    An agent whose raylet was killed tries for a minute to report that to the control store, which has been killed, too.
    """
    if sys.platform != "linux":
        return nullcontext()
    services, name = ray._private.services, "_build_python_executable_command_memory_profileable"
    python_command = getattr(services, name)  # the start of the commands of both agents, and of no worker

    def run_with_raylet(*arguments: Any, **options: Any) -> list[str]:
        return [*python_command(*arguments, **options), "-c", _RUN_WITH_RAYLET]

    return _replace_attribute(services, name, run_with_raylet)


@contextmanager
def _replace_attribute(owner: object, name: str, value: object) -> Iterator[None]:
    """Replace an attribute of a module or class during the block."""
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


def session_name() -> str:
    """Return the name of the Ray session, which contains its start time."""
    return str(_global_node().session_name)


@dataclass(frozen=True)
class ClusterNode:
    """A node of a cluster that is alive.

    Attributes:
        id: Its ID in Ray, in hexadecimal digits.
        address: Its IP address.
        host: Its host name.
        is_head: Whether it holds the state of the cluster.
    """

    id: str
    address: str
    host: str
    is_head: bool


class ControlStore:
    """A client of Ray's control store (GCS) in a process that is not part of the cluster.

    Its methods raise UnavailableError if the control store does not answer.
    """

    def __init__(self) -> None:
        """Find the cluster as Ray's commands do: RAY_ADDRESS, or the one that runs on this machine."""
        try:
            address = ray._private.services.canonicalize_bootstrap_address_or_die("auto")
        except Exception as error:  # Ray raises ConnectionError or exits, depending on what it finds
            raise UnavailableError(
                "No Ray cluster was found: run this on one of its nodes, or set RAY_ADDRESS to HOST:6379 of its head."
            ) from error
        with _control_store_errors():
            self._client: Any = ray._raylet.GcsClient(address=address)  # type: ignore[attr-defined]

    def nodes(self) -> list[ClusterNode]:
        """Return the nodes that are alive."""
        with _control_store_errors():
            found = self._client.get_all_node_info(timeout=_GCS_S)
        alive = ray.core.generated.gcs_pb2.GcsNodeInfo.ALIVE  # type: ignore[attr-defined]
        return [
            ClusterNode(node_id.hex(), node.node_manager_address, node.node_manager_hostname, node.is_head_node)
            for node_id, node in found.items()
            if node.state == alive
        ]

    def drain(self, node_id: str, timeout_s: float) -> None:
        """Have Ray drain a node: Serve starts its replicas elsewhere, and stops them within `timeout_s`.

        Ray ends the node as soon as nothing runs on it. Ordering this twice does no harm.

        Raises:
            StateError: Ray refuses.
        """
        reason = ray.core.generated.autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")  # type: ignore[attr-defined]
        with _control_store_errors():
            is_accepted, why = self._client.drain_node(
                node_id, reason, "lipwright drain", int((time.time() + timeout_s) * 1000)
            )
        if not is_accepted:
            raise StateError(f"Ray refuses to drain node {node_id}: {why}")


@contextmanager
def _control_store_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Ray raises exceptions of any class
        raise UnavailableError(f"Ray's control store does not answer: {error}") from error


def this_address() -> str:
    """Return the IP address of this machine as Ray chooses it."""
    return str(ray.util.get_node_ip_address())


def is_node_draining() -> bool:
    """Return whether Ray drains the node of this process. Blocks; raises Ray's exceptions."""
    client: Any = ray._private.worker.global_worker.gcs_client  # type: ignore[attr-defined]
    return ray.get_runtime_context().get_node_id() in client.get_draining_nodes(timeout=_GCS_S)


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
        raise ConfigError(f"Invalid Serve config: {describe(error.errors())}") from error
    client = serve_start(http_options=schema.http_options.model_dump(), proxy_location=schema.proxy_location)
    client.deploy_apps(schema, _blocking=False)


@contextmanager
def worker_output(write: Callable[[Mapping[str, Any]], None]) -> Iterator[None]:
    """Pass what Ray's processes print to `write` during the block. Needs a node of `start_node`.

    Ray has a process for it, which looks into all files ten times a second.

    Args:
        write: A thread calls it with a dict: "lines", "pid", and "actor_name" or "task_name" if there is one.
    """
    from ray._private.log_monitor import LogMonitor, is_proc_alive

    logging.getLogger(LogMonitor.__module__).setLevel(logging.WARNING)  # it names each file
    folder, stop = _global_node().get_logs_dir_path(), threading.Event()
    monitor = LogMonitor("127.0.0.1", folder, _Publisher(write), is_proc_alive)

    def follow() -> None:
        is_last = False
        while not is_last:
            is_last = stop.wait(_LOG_PERIOD_S)
            try:
                monitor.update_log_filenames()
                monitor.open_closed_files()
                monitor.check_log_files_and_publish_updates()
            except Exception as error:  # Ray raises exceptions of any class; the next lines may be readable
                logger.warning("%s: could not read the output of Ray's processes: %r", folder, error)

    thread = threading.Thread(target=follow, name="worker-output", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_LOG_STOP_S)


class _Publisher:
    """Takes the part of a client of Ray's control store that `LogMonitor` uses."""

    def __init__(self, write: Callable[[Mapping[str, Any]], None]) -> None:
        self.publish_logs = write


class LocalNode:
    """The processes of the Ray node that this process started with `ray.init`."""

    def __init__(self) -> None:
        self._node = _global_node()
        self._ping: ray.ObjectRef[int] | None = None
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
            if self._ping is not None:
                if not ray.wait([self._ping], timeout=0)[0]:
                    return silence_s
                self._ping = None
            if context._global_client is not None and silence_s >= _PING_PERIOD_S:
                self._pinged_at = time.monotonic()
                self._ping = context._global_client._controller.get_pid.remote()
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
