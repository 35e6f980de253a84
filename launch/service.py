"""The whole service on this machine: its own Ray, the graph, and a clean end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import ConfigError
from launch.data_folder import TableFile, checked_table
from launch.environment import ROOT, private_files, python_path, restore_sigterm, set_ray_variables
from launch.folder_lock import locked_folder
from launch.front_proxy import FrontProxy, haproxy_binary
from launch.port import free_port
from launch.preflight import check_access, check_port, check_results
from launch.readiness import wait_until_ready
from launch.serve_config import ServeConfig, reachable, read_serve_config
from launch.service_log import SILENT, ServiceLog, Terminal, open_service_log
from launch.watchdog import watchdog
from net.access_rule import is_private

logger = logging.getLogger(__name__)

_RESIGN_S = 6.0  # jobs of the Director stop in half of it


@dataclass(frozen=True)
class NodeOptions:
    """What the Ray node of the service is started with; None leaves it to Ray.

    Attributes:
        object_store_bytes: Shared memory for what travels between stages, at least 75 MiB; Ray takes 30 % of the
            memory. What does not fit is written to Ray's folder under /tmp.
        metrics_port: TCP port at which Prometheus finds the metrics; Ray takes a free one.
    """

    object_store_bytes: int | None = None
    metrics_port: int | None = None


@contextmanager
def running_service(
    host: str = "127.0.0.1",
    port: int = 0,
    data_dir: Path | None = None,
    config_path: Path | None = None,
    terminal: Terminal = SILENT,
    node: NodeOptions = NodeOptions(),
    allow_without_keys: bool = False,
    heygem: Mapping[str, Any] | None = None,
    gradio: bool = False,
) -> Iterator[str]:
    """Run the service in a Ray of its own while the block lasts; gives its base URL when every stage answers.

    Args:
        host: Address to listen on.
        port: 0 takes a free one.
        data_dir: Where jobs and files lie; None leaves it to the config.
        config_path: A Serve config; None chooses by whether there is a GPU.
        terminal: What is shown of the start and of warnings; the rest is in `service.log` in the data folder.
        node: What the Ray node is started with.
        allow_without_keys: Serve other machines though no API key exists.
        heygem: Fields of `config.HeygemConfig` that replace those of the config.
        gradio: Show the page by Gradio, whatever the config says.

    Raises:
        ConfigError: The config or the data folder cannot be used, a stage cannot start, the port is taken, or strangers
            would be served or would meet Serve without a front.
        StateError: Another service works in the data folder, and the job table lies there.
        TableUnreachableError: The job table is in a database that does not answer.
        StorageUnreachableError: Files are in a bucket that does not answer, or does not let this service in.
        StageTimeoutError: The stages did not come up within five minutes.
    """
    known, port = read_serve_config(config_path), port or free_port()
    config = known.on_this_machine(host, port, data_dir, allow_without_keys, heygem, gradio)
    check_access(host, config.pipeline)
    check_port(host, config.http_options["port"])
    url = f"http://{reachable(host)}:{config.http_options['port']}"
    settings = config.pipeline
    with locked_folder(settings.data_dir, is_shared=settings.state is not None) as lock:
        check_results(settings)
        table = checked_table(settings.data_dir, settings.state)
        with (
            _fronted(config) as (behind, front),
            open_service_log(_log_path(config), terminal) as log,
            _deployed(behind, node, front, table, log, terminal),
        ):
            lock.publish_url(url)
            yield url


def _log_path(config: ServeConfig) -> Path:
    """The log file; services that share a data folder have one each."""
    name = "service.log" if config.pipeline.state is None else f"service.{config.http_options['port']}.log"
    return config.pipeline.data_dir.resolve() / name


@contextmanager
def _fronted(config: ServeConfig) -> Iterator[tuple[ServeConfig, FrontProxy | None]]:
    """The front at the address of `config` for the block; gives the config of a Serve behind it, and the front."""
    host, port = config.http_options["host"], config.http_options["port"]
    program = haproxy_binary()
    if program is None:
        if not is_private(host):
            raise ConfigError(
                f"--host {host}: expected HAProxy, without which Serve reads heads of any size from strangers; found "
                "none. Ray brings it on Linux (`ray[serve]`); elsewhere, install haproxy 2.8 or newer."
            )
        logger.warning("No HAProxy was found: the service takes heads of any size from programs on this machine.")
        yield config, None
        return
    behind = config.on_this_machine("127.0.0.1", free_port())
    front = FrontProxy(program, host, port, behind.http_options["port"])
    try:
        front.start()
        yield behind, front
    finally:
        front.close()


@contextmanager
def _deployed(
    config: ServeConfig,
    node: NodeOptions,
    front: FrontProxy | None,
    table: TableFile,
    log: ServiceLog,
    terminal: Terminal,
) -> Iterator[None]:
    """Run a Ray of our own with the graph in it for the block; enters it once every stage answers."""
    set_ray_variables()
    terminal.step(f"Starting Ray (log: {log.path})")
    import ray  # a second to import: the other commands do without

    from deployments.runtime.ray_internals import LocalNode, deploy, redirect_worker_output

    try:
        log.take_over_ray()
        # Ray puts the working directory first on the path of every worker, and workers inherit it.
        with private_files(), python_path(), restore_sigterm(), chdir(ROOT):
            ray.init(
                address="local",
                namespace="serve",
                include_dashboard=False,
                object_store_memory=node.object_store_bytes,
                _metrics_export_port=node.metrics_port,
                configure_logging=False,
            )
            redirect_worker_output(log.write)
        import ray.serve  # another second, in which Ray's processes come up

        log.take_over_ray()
        with watchdog(LocalNode(), front, table):
            terminal.step(f"Starting {len(config.deployments)} deployments")
            deploy(config.content)
            options = config.http_options
            wait_until_ready(f"http://{reachable(options['host'])}:{options['port']}", config.name)
            try:
                yield
            finally:
                if config.pipeline.state is not None:
                    _resign(config.name)
    finally:
        if ray.is_initialized():
            # The cluster is ours and ends as a whole; unfinished jobs are rows that the next start takes up.
            ray.shutdown()


def _resign(app_name: str) -> None:
    """Have the Director give its lease back before all ends, so that another service leads at once.

    One that does not answer in time is not waited for: its lease ends by itself.
    """
    from ray import serve

    def ask() -> None:
        with suppress(Exception):  # whatever it is, the service ends next
            serve.get_deployment_handle("Director", app_name).resign.remote().result(timeout_s=_RESIGN_S)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_RESIGN_S)
