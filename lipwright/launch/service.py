"""Runs the whole service on this machine: its own Ray, the graph, the front proxy, and a clean shutdown."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lipwright.errors import ConfigError, LipwrightError, UnavailableError
from lipwright.launch.data_folder import TableFile, locked_folder, table_with_space
from lipwright.launch.environment import import_path, make_ray_folder, private_files, restore_sigterm, set_ray_variables
from lipwright.launch.front_proxy import FrontProxy, haproxy_binary
from lipwright.launch.preflight import (
    check_access,
    check_packages,
    check_port,
    check_results,
    disk_shortage,
    missing_gpu,
)
from lipwright.launch.ray_node import RayNode
from lipwright.launch.readiness import bounded_start, free_port, last_line, wait_until_ready
from lipwright.launch.serve_config import ServeConfig, reachable, read_serve_config
from lipwright.launch.service_log import LOG_FORMAT, SILENT, ServiceLog, Terminal, follow_output, open_service_log
from lipwright.launch.watchdog import watchdog
from lipwright.net.access_rule import is_private
from lipwright.storage.state import open_keys

logger = logging.getLogger(__name__)

_RESIGN_S = 6.0  # the Director stops its jobs in half of this time
_NOTICE_S = 1.0


@dataclass(frozen=True)
class NodeOptions:
    """Options of the Ray node; None means Ray's default.

    Attributes:
        object_store_bytes: Shared memory for data between stages, at least 75 MiB; Ray's default is 30 % of the
            memory. Data that does not fit is spilled to Ray's folder, see `ray_folder`.
        metrics_port: TCP port of the Prometheus metrics; Ray's default is a free one.
    """

    object_store_bytes: int | None = None
    metrics_port: int | None = None


def private_config(data_dir: Path | None, path: Path | None = None) -> ServeConfig:
    """Return the Serve config at `path`, or the shipped one, for a service on loopback at a free port."""
    return read_serve_config(path).on_this_machine("127.0.0.1", 0, data_dir)


@contextmanager
def running_service(
    config: ServeConfig,
    terminal: Terminal = SILENT,
    node: NodeOptions = NodeOptions(),
    health_port: int | None = None,
    max_drain_s: float = 0.0,
) -> Iterator[str]:
    """Run the service with its own Ray for the block; yields its base URL once every stage answers.

    If Ray takes more than five minutes to start, this process exits: see `bounded_start`.

    Args:
        config: The Serve config with its address, see `ServeConfig.on_this_machine`; port 0 stands for a free one.
        terminal: Shows start-up steps and warnings; everything else goes to `service.log` in the data folder.
        node: Options of the Ray node.
        health_port: Another TCP port, which only serves health checks and has connections of its own.
        max_drain_s: How long to wait at the end for the segments that are being rendered, in seconds.

    Raises:
        ConfigError: Packages are missing, the config or the data folder is unusable, a deployment cannot start, the
            port is in use, or the service would be public without API keys or without the front proxy.
        StateError: Another service uses the data folder, which holds the job table.
        TableUnreachableError: The database of the job table does not answer.
        StorageFullError: The disk stayed full for `jobs.max_disk_wait_s`.
        StorageUnreachableError: The bucket of the files does not answer or denies access.
        UnavailableError: Ray did not start.
        StageTimeoutError: The deployments were not ready within five minutes.
    """
    check_packages()
    if config.http_options["port"] == 0:
        config = config.on_this_machine(port=free_port())
    address, settings = config.http_options, config.pipeline
    check_access(address["host"], settings)
    for tcp_port in (address["port"], *([] if health_port is None else [health_port])):
        check_port(address["host"], tcp_port)
    url = f"http://{reachable(address['host'])}:{address['port']}"
    with locked_folder(settings.data_dir, is_shared=settings.state is not None) as lock:
        check_results(settings)
        table = table_with_space(settings.data_dir, settings.state, settings.jobs.max_disk_wait_s, terminal.warn)
        for warning in filter(None, (disk_shortage(settings), missing_gpu())):
            terminal.warn(warning)
        with (
            _run_front(config, health_port, node) as (behind, node_behind, front),
            open_service_log(_log_path(config), terminal) as log,
            _run_graph(behind, node_behind, front, table, log, terminal, max_drain_s),
        ):
            lock.publish_url(url)
            yield url


def _log_path(config: ServeConfig) -> Path:
    """Return the path of the log file; services that share a data folder have one each."""
    name = "service.log" if config.pipeline.state is None else f"service.{config.http_options['port']}.log"
    return config.pipeline.data_dir.resolve() / name


@contextmanager
def _run_front(
    config: ServeConfig, health_port: int | None, node: NodeOptions
) -> Iterator[tuple[ServeConfig, NodeOptions, FrontProxy | None]]:
    """Run the front proxy at the ports of `config` and `node`; yields what is behind it, and the proxy."""
    host, port = config.http_options["host"], config.http_options["port"]
    program = haproxy_binary()
    if program is None:
        if health_port is not None:
            raise ConfigError(f"--health-port {health_port}: HAProxy is required and was not found.")
        if not is_private(host):
            raise ConfigError(
                f"--host {host}: HAProxy is required for a public address and was not found; without it, request "
                "headers are unlimited. It comes with `ray[serve]` on Linux; elsewhere, install haproxy 2.8 or newer."
            )
        logger.warning("HAProxy not found: the size of request headers from this machine is not limited")
        yield config, node, None
        return
    behind = config.on_this_machine("127.0.0.1", free_port())
    metrics_ports = None
    if node.metrics_port is not None:
        metrics_ports = node.metrics_port, free_port()
        node = replace(node, metrics_port=metrics_ports[1])
    keys = open_keys(config.pipeline.state, config.pipeline.data_dir)
    serve_port = behind.http_options["port"]
    front = FrontProxy(program, host, port, serve_port, health_port, metrics_ports=metrics_ports, keys=keys)
    try:
        front.start()
        yield behind, node, front
    finally:
        front.close()


@contextmanager
def _run_graph(
    config: ServeConfig,
    node: NodeOptions,
    front: FrontProxy | None,
    table: TableFile,
    log: ServiceLog,
    terminal: Terminal,
    max_drain_s: float,
) -> Iterator[None]:
    """Run Ray and the graph for the block, which starts once every stage answers."""
    set_ray_variables()
    terminal.step(f"Starting Ray (log: {log.path})")
    with _ray(node, log) as ray_node:
        from deployments.runtime.ray_internals import deploy

        log.take_over_ray()
        with watchdog(ray_node, front, table):
            terminal.step(f"Starting {len(config.deployments)} deployments")
            with _ray_start_errors(log.path):
                deploy(config.content)
            options = config.http_options
            wait_until_ready(f"http://{reachable(options['host'])}:{options['port']}", config.name)
            try:
                yield
            finally:
                _resign(config.name, max_drain_s, terminal)


@contextmanager
def _ray(node: NodeOptions, log: ServiceLog) -> Iterator[RayNode]:
    """Run a Ray node for the block."""
    import ray.serve  # imported here because it takes two seconds, which other commands do not need

    def shut_down() -> None:
        if ray.is_initialized():
            # Unfinished jobs are rows of the job table; the next start resumes them.
            ray.shutdown()

    log.take_over_ray()
    folder = make_ray_folder()
    with ExitStack() as running:
        with private_files(), import_path(), restore_sigterm(), _ray_start_errors(log.path):
            running.callback(shut_down)
            with bounded_start():
                context: Any = ray.init(
                    address="local",
                    namespace="serve",
                    include_dashboard=False,
                    logging_format=LOG_FORMAT,  # Ray sets it for the handlers of its loggers
                    log_to_driver=False,  # `follow_output` writes it to the log
                    object_store_memory=node.object_store_bytes,
                    _metrics_export_port=node.metrics_port,
                    _temp_dir=None if folder is None else str(folder),
                )
            running.enter_context(follow_output(Path(context.address_info["session_dir"]) / "logs", log))
            ray_node = RayNode()
            running.callback(ray_node.close)
        yield ray_node


@contextmanager
def _ray_start_errors(log_path: Path) -> Iterator[None]:
    """Raise UnavailableError if Ray does not start in the block; Ray raises exceptions of any class."""
    try:
        yield
    except LipwrightError:
        raise
    except Exception as error:
        logger.info("Ray did not start", exc_info=error)
        raise UnavailableError(
            f"Ray did not start: {last_line(str(error))} If the machine is busy, try again; `lipwright doctor` checks "
            f"it, and the log is {log_path}."
        ) from error


def _resign(app_name: str, max_drain_s: float, terminal: Terminal) -> None:
    """Have the Director end the segments in flight and release its lease, so that another service leads at once.

    If it does not answer in time, its lease expires by itself.
    """
    from ray import serve

    def ask() -> None:
        with suppress(Exception):  # the service stops in any case
            handle = serve.get_deployment_handle("Director", app_name)
            handle.resign.remote(max_drain_s).result(timeout_s=max_drain_s + _RESIGN_S)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_NOTICE_S)
    if asking.is_alive():
        terminal.step(f"Finishing the segments in progress, at most {max_drain_s:g} s (Ctrl-C: stop now)")
        asking.join(max_drain_s + _RESIGN_S)
