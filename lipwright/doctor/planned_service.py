"""The service as it would start on this machine, and the resources it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lipwright.config import PipelineConfig
from lipwright.errors import ConfigError
from lipwright.launch.serve_config import read_serve_config

_ACTOR: Final = {"num_cpus": 1.0, "num_gpus": 0.0}  # Ray's defaults for an actor of Serve


@dataclass(frozen=True)
class DoctorOptions:
    """Options of `lipwright doctor`; None leaves the value to the Serve config or to Ray."""

    config: Path | None = None
    host: str | None = None
    port: int | None = None
    data_dir: Path | None = None
    object_store_bytes: int | None = None


@dataclass(frozen=True)
class PlannedService:
    """The service that would start.

    Attributes:
        config_path: The Serve config.
        pipeline: Settings of the graph.
        host: Address to listen on.
        port: TCP port to listen on.
        num_cpus: Total CPUs of the minimum number of replicas.
        num_gpus: Total GPUs of the minimum number of replicas.
        in_flight_bytes: Bytes in transit between Studio and FaceSynthesis at full load.
        object_store_bytes: Requested size of Ray's object store; None leaves it to Ray.
    """

    config_path: Path
    pipeline: PipelineConfig
    host: str
    port: int
    num_cpus: float
    num_gpus: float
    in_flight_bytes: int
    object_store_bytes: int | None


def plan_service(question: DoctorOptions) -> PlannedService:
    """Reads the Serve config as `lipwright serve` does.

    Raises:
        ConfigError: The config is invalid.
    """
    config = read_serve_config(question.config).on_this_machine(question.host, question.port, question.data_dir)
    try:
        deployments = [(_num_replicas(each), each) for each in config.deployments]
        return PlannedService(
            config_path=config.path,
            pipeline=config.pipeline,
            host=config.http_options["host"],
            port=config.http_options["port"],
            num_cpus=sum(number * _share(each, "num_cpus") for number, each in deployments),
            num_gpus=sum(number * _share(each, "num_gpus") for number, each in deployments),
            in_flight_bytes=_in_flight_bytes(config.pipeline, deployments),
            object_store_bytes=question.object_store_bytes,
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{config.path}: expected a Serve config of Lipwright, found: {error}") from error


def _num_replicas(deployment: dict[str, Any]) -> int:
    """Returns the number of replicas that must be scheduled before the application starts."""
    scaling, number = deployment.get("autoscaling_config") or {}, deployment.get("num_replicas")
    number = None if number == "auto" else number
    return int(number or scaling.get("initial_replicas") or scaling.get("min_replicas", 1))


def _share(deployment: dict[str, Any], resource: str) -> float:
    return float((deployment.get("ray_actor_options") or {}).get(resource, _ACTOR[resource]))


def _in_flight_bytes(pipeline: PipelineConfig, deployments: Sequence[tuple[int, dict[str, Any]]]) -> int:
    """Returns the bytes of the chunks of all running segments and of their results, which are about as large."""
    num_calls = sum(
        number * int(each.get("max_ongoing_requests", 1)) for number, each in deployments if each["name"] == "Studio"
    )
    num_segments = min(num_calls, pipeline.jobs.max_running_jobs * pipeline.render.segment_window)
    return num_segments * pipeline.render.chunk_window * pipeline.render.max_chunk_bytes * 2
