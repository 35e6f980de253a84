"""Reads the Serve config: replicas and resources of the deployments, and the settings in `args:`."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from lipwright.config import PipelineConfig
from lipwright.launch.config_file import APPLICATION, SETTINGS, ConfigFile

DEFAULT_PORT: Final = 8000
HEYGEM_PORT: Final = 8383
"""The port of HeyGem's own service: the default if its API is served."""
_REPLACES: Final = {"num_replicas": "autoscaling_config", "autoscaling_config": "num_replicas"}
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class ServeConfig:
    """A Serve config with one application.

    Attributes:
        path: The file.
        content: The parsed file, on top of a shipped one if it only has overrides; read-only.
        file: The file of the user, if it is not a shipped one.
    """

    path: Path
    content: dict[str, Any]
    file: ConfigFile | None = None

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
            settings = PipelineConfig.model_validate(self.application.get("args") or {})
        except ValidationError as error:
            raise (self.file or ConfigFile(self.path)).validation_error(error, SETTINGS) from error
        if settings.engines:
            from models.engines.registry import ENGINES, POST_PROCESSORS  # imports NumPy

            names = {*ENGINES, *POST_PROCESSORS}
            for name in settings.engines.keys() - names:
                raise (self.file or ConfigFile(self.path)).unknown_name((*SETTINGS, "engines", name), names)
        return settings

    def on_this_machine(
        self,
        host: str | None = None,
        port: int | None = None,
        data_dir: Path | None = None,
        allow_without_keys: bool = False,
        heygem: Mapping[str, Any] | None = None,
    ) -> ServeConfig:
        """Return a copy for a service on this machine, at this address; None and False change nothing.

        With `heygem`, the default port is that of HeyGem.
        """
        content = copy.deepcopy(self.content)
        if host is None:
            host = str(self.http_options.get("host", "127.0.0.1"))
        if port is None:
            own = self.file.content["http_options"].get("port") if self.file else None
            port = own or (HEYGEM_PORT if heygem else self.http_options.get("port", DEFAULT_PORT))
        content["http_options"] = self.http_options | {"host": host, "port": port}
        content["proxy_location"] = "HeadOnly"
        arguments = content["applications"][0].setdefault("args", {})
        if data_dir is not None:
            arguments["data_dir"] = str(data_dir.absolute())
        if allow_without_keys:
            arguments["access"] = {**arguments.get("access", {}), "allow_without_keys": True}
        if heygem:
            arguments["heygem"] = {**arguments.get("heygem", {}), **heygem}
        return ServeConfig(self.path, content, self.file)


def reachable(host: str) -> str:
    """Return an address at which this machine reaches its own server on `host`."""
    reached = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{reached}]" if ":" in reached and not reached.startswith("[") else reached


def read_serve_config(path: Path | None = None, shipped: Path | None = None) -> ServeConfig:
    """Read a Serve config and check it.

    Args:
        path: A file of the user: a whole Serve config, or overrides of the shipped one; None reads the shipped one.
        shipped: The shipped file; None chooses one for this machine.

    Raises:
        ConfigError: The file or a setting is invalid.
    """
    file = None if path is None else ConfigFile(path)
    if file is not None and file.is_complete:
        config = ServeConfig(file.path, file.content, file)
    else:
        shipped = shipped or default_config_path(has_nvidia_gpu())
        content = yaml.safe_load(shipped.read_text(encoding="utf-8"))
        config = ServeConfig(shipped, content) if file is None else ServeConfig(file.path, _on_top(content, file), file)
    config.pipeline  # noqa: B018  # checks the settings before anything starts
    return config


def _on_top(shipped: dict[str, Any], file: ConfigFile) -> dict[str, Any]:
    """Return a shipped config with the overrides of a file; deployments are matched by name."""
    (application,), (changes,) = shipped["applications"], file.content["applications"]
    deployments = {each["name"]: each for each in application["deployments"]}
    for number, each in enumerate(changes.get("deployments") or []):
        if each["name"] not in deployments:
            raise file.unknown_name((*APPLICATION, "deployments", number, each["name"]), deployments)
        replaced = {_REPLACES.get(option) for option in each}
        kept = {option: value for option, value in deployments[each["name"]].items() if option not in replaced}
        deployments[each["name"]] = _merge(kept, each)
    merged = _merge(application, changes) | {"deployments": list(deployments.values())}
    return {**_merge(shipped, file.content), "applications": [merged]}


def _merge(base: Any, changes: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return base | {key: _merge(base.get(key), value) for key, value in changes.items()}


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
