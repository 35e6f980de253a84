"""Reads the Serve config: replicas and resources of the deployments, and the settings in `args:`."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from config import PipelineConfig
from errors import ConfigError

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class ServeConfig:
    """A Serve config with one application.

    Attributes:
        path: The file.
        content: The parsed file; read-only.
    """

    path: Path
    content: dict[str, Any]

    @property
    def application(self) -> dict[str, Any]:
        """The section of the application."""
        (application,) = self.content["applications"]
        return dict(application)

    @property
    def name(self) -> str:
        """The application's name on a cluster."""
        return str(self.application.get("name", "default"))

    @property
    def http_options(self) -> dict[str, Any]:
        """The HTTP options, such as host and port."""
        return dict(self.content.get("http_options") or {})

    @property
    def deployments(self) -> list[dict[str, Any]]:
        """The options of the deployments."""
        return list(self.application.get("deployments") or [])

    @cached_property
    def pipeline(self) -> PipelineConfig:
        """The settings of the graph.

        Raises:
            ConfigError: A setting is invalid.
        """
        try:
            return PipelineConfig.model_validate(self.application.get("args") or {})
        except ValidationError as error:
            raise ConfigError(f"{self.path}: the args of the application: {error}") from error

    def on_this_machine(
        self,
        host: str,
        port: int,
        data_dir: Path | None = None,
        allow_without_keys: bool = False,
        heygem: Mapping[str, Any] | None = None,
        gradio: bool = False,
    ) -> ServeConfig:
        """Return a copy for a service on this machine, at this address; None and False change nothing."""
        content = copy.deepcopy(self.content)
        content["http_options"] = self.http_options | {"host": host, "port": port}
        content["proxy_location"] = "HeadOnly"
        arguments = content["applications"][0].setdefault("args", {})
        if data_dir is not None:
            arguments["data_dir"] = str(data_dir.absolute())
        if allow_without_keys:
            arguments["access"] = {**arguments.get("access", {}), "allow_without_keys": True}
        if heygem:
            arguments["heygem"] = {**arguments.get("heygem", {}), **heygem}
        if gradio or arguments.get("gradio", {}).get("enabled"):
            arguments["gradio"] = {"enabled": True, "service_url": f"http://{reachable(host)}:{port}"}
            for deployment in content["applications"][0].get("deployments") or []:
                if deployment["name"] == "Ingress":
                    deployment["num_replicas"] = 1  # Gradio keeps sessions in one process
        return ServeConfig(self.path, content)


def reachable(host: str) -> str:
    """Return an address at which this machine reaches its own server on `host`."""
    return "127.0.0.1" if host in ("0.0.0.0", "") else host


def read_serve_config(path: Path | None = None) -> ServeConfig:
    """Read a Serve config and check Lipwright's settings in it.

    Args:
        path: The file; None chooses one for this machine.

    Raises:
        ConfigError: The file or a setting is invalid.
    """
    path = path or default_config_path(has_nvidia_gpu())
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        (application,) = content["applications"]
        if not isinstance(application, dict):
            raise TypeError(f"applications: expected a mapping, found {application!r}")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not a Serve config with one application: {error!r}") from error
    config = ServeConfig(path, content)
    config.pipeline  # noqa: B018  # checks the settings before anything starts
    return config


def default_config_path(has_gpu: bool) -> Path:
    """Return the path of the shipped Serve config for GPUs or for CPUs."""
    return _ROOT / ("serve_config.yaml" if has_gpu else "serve_config.cpu.yaml")


def has_nvidia_gpu() -> bool:
    """Return whether the NVIDIA driver shows a GPU (also in containers and WSL)."""
    if any(Path("/proc/driver/nvidia/gpus").glob("*")) or any(Path("/dev").glob("nvidia[0-9]*")):
        return True
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU" in listed.stdout
