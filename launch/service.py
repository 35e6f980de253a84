"""The whole service on this machine: its own Ray, the graph, and a clean end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import PipelineConfig
from errors import ConfigError, StageTimeoutError, StandbyError
from launch.data_folder import TableFile, checked_table
from launch.folder_lock import locked_folder
from launch.front_proxy import FrontProxy, haproxy_binary
from launch.port import free_port, try_to_listen
from launch.serve_config import ServeConfig, reachable, read_serve_config
from launch.service_log import SILENT, ServiceLog, Terminal, open_service_log
from launch.watchdog import watchdog
from media.labels.labeller import Labeller
from net.access_rule import AccessRule, is_private
from storage.state import open_keys, try_files

logger = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parents[1]
_RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported from a user's machine
    # Seconds between the controller's looks at the replicas; at Serve's own .1 they take 3 % of a core at rest.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    # What only watches takes time from what renders: gauges of routers and replicas (every .1 s by Serve's own choice),
    # a look for new log files (.5 s), and events of every call, which nobody reads here.
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "1000",
    "LOG_NAME_UPDATE_INTERVAL_S": "5",
    "RAY_task_events_report_interval_ms": "0",
    # The proxy takes no more of a body than a window ahead of its reader.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "api.body_window:proxy_middlewares",
    # A replica whose work hangs is ended at once: Serve's own way waits for that work, up to 20 s, and the next replica
    # for the room that it takes.
    "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
    # Tracebacks without carets: to place them Python parses the line, and `media.array_files` says how that can end.
    "PYTHONNODEBUGRANGES": "1",
    # Nothing in the working directory is imported by any process.
    "PYTHONSAFEPATH": "1",
}
# Read when Ray is imported. Off, the node is 127.0.0.1 and Ray's own servers listen on loopback, its metrics among
# them; on, as it is on Linux, all of them listen on every address.
_RAY_IMPORT_SETTINGS = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_READY_S = 300.0
_RESIGN_S = 6.0  # jobs of the Director stop in half of it
_POLL_S = 0.2


def check_access(host: str, settings: PipelineConfig) -> None:
    """Refuse to listen where strangers come by while everybody would be served.

    Raises:
        ConfigError: `net.access_rule.AccessRule` forbids it.
    """
    rule = AccessRule(bool(open_keys(settings.state, settings.data_dir).list()), settings.access.allow_without_keys)
    if not rule.may_listen(host):
        raise ConfigError(
            f"--host {host}: other machines are served only with API keys, and there is none in {settings.data_dir}. "
            "Make one with `lipwright keys add NAME`, or start with --allow-without-keys if nobody else gets here."
        )


def check_port(host: str, port: int) -> None:
    """Refuse a port on which something else listens.

    Raises:
        ConfigError: The port is taken, or not for this user, or the host is no address of this machine.
    """
    try:
        try_to_listen(host, port)
    except OSError as error:
        raise ConfigError(
            f"--host {host} --port {port}: expected a free port, found: {error.strerror}. Take another one, or see "
            f"what has it: ss -ltnp 'sport = :{port}'."
        ) from error


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
    with (
        locked_folder(config.pipeline.data_dir, is_shared=config.pipeline.state is not None) as lock,
        _checked(config.pipeline),
        _fronted(config) as (behind, front),
        open_service_log(_log_path(config), terminal) as log,
        _deployed(behind, node, front, checked_table(config.pipeline.data_dir, config.pipeline.state), log, terminal),
    ):
        lock.tell(url)
        yield url


def _log_path(config: ServeConfig) -> Path:
    """The log file; services that share a data folder have one each."""
    name = "service.log" if config.pipeline.state is None else f"service.{config.http_options['port']}.log"
    return config.pipeline.data_dir / name


@contextmanager
def _checked(settings: PipelineConfig) -> Iterator[None]:
    """Refuse to start a service whose results could not be signed, or kept."""
    Labeller(settings.labels, settings.data_dir).check_signing()
    if settings.files is not None:
        try_files(settings)
    yield


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
    # What is set already stays as it is.
    os.environ.update(_RAY_SETTINGS | ({} if "ray" in sys.modules else _RAY_IMPORT_SETTINGS) | os.environ)
    terminal.step(f"Starting Ray (log: {log.path})")
    import ray  # a second to import: the other commands do without

    from deployments.runtime.ray_internals import LocalNode, deploy, redirect_worker_output

    try:
        log.take_over_ray()
        # Ray puts the working directory first on the path of every worker, and workers inherit it.
        with _private_files(), _python_path(), restore_sigterm(), chdir(_ROOT):
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
            _wait_until_ready(f"http://{reachable(options['host'])}:{options['port']}", config.name)
            try:
                yield
            finally:
                if config.pipeline.state is not None:
                    _resign(config.name)
    finally:
        if ray.is_initialized():
            # The cluster is ours and ends as a whole; unfinished jobs are rows that the next start takes up.
            ray.shutdown()


@contextmanager
def _private_files() -> Iterator[None]:
    """Have the files of every process that is started in the block be nobody else's on this machine."""
    umask = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(umask)


@contextmanager
def _python_path() -> Iterator[None]:
    """Have every process that is started in the block, and those that it starts, find this project.

    Ray's `runtime_env` does the same, and has each worker made anew for it: those that Ray keeps ready go unused, and a
    service of eight replicas comes up 4 s later.
    """
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), known)))
    try:
        yield
    finally:
        if known is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = known


@contextmanager
def restore_sigterm() -> Iterator[None]:
    """Have SIGTERM end this process as it did before the block, in which Ray installs what ends it at once."""
    known = signal.getsignal(signal.SIGTERM)
    yield
    if callable(known) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, known)


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


def _wait_until_ready(url: str, app_name: str) -> None:
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        app = serve.status().applications.get(app_name)
        if app is not None and app.status is ApplicationStatus.DEPLOY_FAILED:
            raise ConfigError(f"The service cannot start: {_last_line(app.message)}")
        if app is not None and app.status is ApplicationStatus.RUNNING and _answers(f"{url}/readyz"):
            return
        time.sleep(_POLL_S)
    raise StageTimeoutError(f"The service was not ready within {_READY_S:.0f} s.")


def _answers(url: str) -> bool:
    """Whether the service is ready, or waits for another one to end."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        return StandbyError.code.encode() in error.read()
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
