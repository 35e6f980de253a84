"""Finds the running Lipwright application of this cluster, or starts one for the duration of a batch."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.dashboard.modules.serve.sdk import ServeSubmissionClient
from ray.serve.schema import ApplicationStatus

from lipwright.errors import ConfigError, StageTimeoutError
from lipwright.launch.environment import ROOT
from lipwright.launch.readiness import free_port
from lipwright.launch.serve_config import ServeConfig, default_config_path, read_serve_config

_START_S = 300.0  # nodes may have to be started first, and then load weights
_LOOK_S = 0.2
_ALL_ADDRESSES = ("", "0.0.0.0", "::")


@contextmanager
def running_application(serve_config: Path | None = None) -> Iterator[str]:
    """Yield the base URL of the running application, or of one that is started for the block.

    Args:
        serve_config: Names the application and defines how to start it: a whole Serve config, or overrides of the
            shipped one, which is chosen by whether the cluster has a GPU.

    Raises:
        ConfigError: The file is invalid, there is no cluster, or the application cannot start.
        StageTimeoutError: The application does not start in time.
    """
    try:
        with chdir(ROOT):  # Ray puts the working directory on the path of this job's workers
            context = ray.init(address="auto", log_to_driver=False, logging_level=logging.WARNING)
    except ConnectionError as error:
        raise ConfigError("no running Ray cluster found; start one with `ray start --head`") from error
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        config = read_serve_config(serve_config, default_config_path(ray.cluster_resources().get("GPU", 0) > 0))
        dashboard = ServeSubmissionClient(f"http://{context.dashboard_url}")
        with _deploy(config, dashboard):
            _wait_until_running(config.name)
            yield _base_url(config.name, dashboard.get_serve_details())
    finally:
        ray.shutdown()


@contextmanager
def _deploy(config: ServeConfig, dashboard: ServeSubmissionClient) -> Iterator[None]:
    """Deploy the application for the block if it is not running, and leave Serve as it was before."""
    before = serve.status()
    if config.name in before.applications:
        yield
        return
    has_serve = bool(before.proxies or before.applications)
    # Only this batch uses the application, so it listens on loopback. The address of Serve cannot be changed later,
    # hence the shutdown.
    content = (config if has_serve else config.on_this_machine("127.0.0.1", free_port())).content
    try:
        try:
            dashboard.deploy_applications(content)
        except RuntimeError as error:
            raise ConfigError(f"The cluster rejected the Serve config: {error}") from error
        yield
    finally:
        serve.delete(config.name)
        if not has_serve and not serve.status().applications:
            serve.shutdown()


def _wait_until_running(name: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        application = serve.status().applications.get(name)
        if application is not None and application.status is ApplicationStatus.RUNNING:
            return
        if application is not None and application.status is ApplicationStatus.DEPLOY_FAILED:
            raise ConfigError(f"The application {name} failed to start: {application.message}")
        time.sleep(_LOOK_S)
    raise StageTimeoutError(f"The application {name} did not start within {_START_S:.0f} s.")


def _base_url(name: str, serve_details: dict[str, Any]) -> str:
    """Return the base URL of an application, through the HTTP proxy of this node if it has one.

    Raises:
        ConfigError: Serve has no HTTP proxies.
    """
    proxies = serve_details["proxies"]
    proxy = proxies.get(ray.get_runtime_context().get_node_id()) or next(iter(proxies.values()), None)
    if proxy is None:
        raise ConfigError("Ray Serve runs without HTTP proxies; set proxy_location to HeadOnly or EveryNode.")
    options = serve_details["http_options"]
    host = proxy["node_ip"] if options["host"] in _ALL_ADDRESSES else options["host"]
    prefix = serve_details["applications"][name]["route_prefix"]
    return f"http://{host}:{options['port']}{options['root_path']}{prefix}".rstrip("/")
