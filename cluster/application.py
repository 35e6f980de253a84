"""The Lipwright application on the cluster that this program runs on: found running, or started for a while."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray
import yaml
from pydantic import ValidationError
from ray import serve
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

from config import PipelineConfig
from deployments.director_client import DirectorClient
from errors import ConfigError, StageTimeoutError

_START_S = 300.0  # weights are loaded on machines that may have to be started first
_LOOK_S = 0.5


@dataclass(frozen=True)
class ServedApplication:
    """What a Serve config says of Lipwright.

    Attributes:
        file: The Serve config.
        name: The application's name on the cluster.
        pipeline: Its arguments.
    """

    file: Path
    name: str
    pipeline: PipelineConfig


def read_application(serve_config: Path) -> ServedApplication:
    """Read the one application of a Serve config.

    Raises:
        ConfigError: The file cannot be used.
    """
    try:
        parsed = ServeDeploySchema.model_validate(yaml.safe_load(serve_config.read_text(encoding="utf-8")))
        (application,) = parsed.applications
        return ServedApplication(serve_config, application.name, PipelineConfig.model_validate(application.args))
    except (OSError, yaml.YAMLError, ValidationError, ValueError) as error:
        raise ConfigError(f"{serve_config}: expected a Serve config with one application, found: {error}") from error


@contextmanager
def running_director(application: ServedApplication) -> Iterator[DirectorClient]:
    """Yield the Director of the running application. One that was started for the block is deleted after it.

    Raises:
        StageTimeoutError: The application does not come up.
        ConfigError: Its start fails.
    """
    ray.init(address="auto", log_to_driver=False)
    started_here = application.name not in serve.status().applications
    try:
        if started_here:
            _deploy(application.file)
        _wait_until_running(application.name)
        yield DirectorClient(serve.get_deployment_handle("Director", application.name))
    finally:
        if started_here:
            serve.delete(application.name)
        ray.shutdown()


def _deploy(serve_config: Path) -> None:
    command = Path(sys.executable).with_name("serve")
    done = subprocess.run([command, "deploy", serve_config], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise ConfigError(f"{serve_config}: `serve deploy` failed: {done.stderr.strip()}")


def _wait_until_running(name: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        application = serve.status().applications.get(name)
        if application is not None and application.status is ApplicationStatus.RUNNING:
            return
        if application is not None and application.status is ApplicationStatus.DEPLOY_FAILED:
            raise ConfigError(f"The application {name} failed to start: {application.message}")
        time.sleep(_LOOK_S)
    raise StageTimeoutError(f"The application {name}: expected to be running within {_START_S:.0f} s, found it is not.")
