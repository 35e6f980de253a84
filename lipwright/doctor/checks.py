"""Runs all checks in the order of the report."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lipwright.config import PipelineConfig
from lipwright.doctor.access import (
    AGENT_PORT,
    check_address,
    check_agent_port,
    check_front,
    check_keys,
    check_token,
    num_rays_on,
)
from lipwright.doctor.compute import check_gpus
from lipwright.doctor.machine import available_memory_bytes, file_system, num_cpus
from lipwright.doctor.media_checks import check_decoders, check_encoders, check_labels, check_sandbox
from lipwright.doctor.planned_service import DoctorOptions, PlannedService, plan_service
from lipwright.doctor.report import CheckResult, problem
from lipwright.doctor.resources import (
    check_cpus,
    check_memory,
    check_object_store,
    check_open_files,
    check_shared_memory,
    store_bytes,
)
from lipwright.doctor.software import check_clock, check_onnxruntime, check_packages, check_python, check_weights
from lipwright.doctor.storage import (
    check_cache,
    check_data_folder,
    check_files,
    check_free_space,
    check_spill_folder,
    check_state,
)
from lipwright.errors import ConfigError
from lipwright.launch.environment import ray_folder
from lipwright.launch.front_proxy import haproxy_binary
from lipwright.media.decoding.memory_budget import memory_bytes
from lipwright.storage.state import open_keys

_SHM = Path("/dev/shm")


_Check = Callable[[], CheckResult | list[CheckResult]]


@dataclass(frozen=True)
class Report:
    """The results of all checks, and the service that they are about: `config`, `address` and `data_dir`."""

    checked: Mapping[str, str]
    results: Sequence[CheckResult]


def run_checks(question: DoctorOptions) -> Report:
    """Runs all checks; a check that fails to run is reported as a problem."""
    results = _all(_OF_ANY_MACHINE)
    try:
        plan = plan_service(question)
    except ConfigError as error:
        fix = "Correct this line; lipwright/config.py describes all settings."
        results.append(problem(str(error), "a valid config file", fix).named("Serve config"))
        return Report({"config": str(question.config or "the shipped one")}, results)
    results += _all(_of_this_machine(plan))
    address = f"{plan.host or '0.0.0.0'}:{plan.port}"
    checked = {"config": str(plan.config_path), "address": address, "data_dir": str(plan.pipeline.data_dir)}
    return Report(checked, results)


_OF_ANY_MACHINE: Mapping[str, _Check] = {
    "Python": check_python,
    "Packages": check_packages,
    "onnxruntime package": check_onnxruntime,
    "Clock": lambda: check_clock(time.time()),
    "Weights": check_weights,
    "Decoders": check_decoders,
}


def _of_this_machine(plan: PlannedService) -> Mapping[str, _Check]:
    available = available_memory_bytes()
    shm = file_system(_SHM)
    store = store_bytes(available, shm.free_bytes, plan.object_store_bytes)
    data_dir, pipeline = plan.pipeline.data_dir, plan.pipeline
    return {
        "CPU": lambda: check_cpus(num_cpus(), plan.num_cpus),
        "Encoders": lambda: check_encoders(pipeline.render.encoder),
        "Memory": lambda: check_memory(memory_bytes(), available),
        "Open files": lambda: check_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        "GPU": lambda: check_gpus(plan.num_gpus),
        "Shared memory": lambda: check_shared_memory(store, shm),
        "Object store": lambda: check_object_store(store, plan.in_flight_bytes),
        "Data folder": lambda: check_data_folder(data_dir, holds_table=pipeline.state is None),
        "Job table": lambda: check_state(pipeline.state),
        "Files": lambda: check_files(pipeline),
        "Disk": lambda: _check_disk_space(pipeline),
        "Ray's folder": lambda: check_spill_folder(ray_folder(os.environ), store),
        "HTTP port": lambda: check_address(plan.host, plan.port, data_dir),
        "HTTP front": lambda: check_front(plan.host, haproxy_binary()),
        "API keys": lambda: check_keys(plan.host, open_keys(pipeline.state, data_dir).list(), pipeline),
        "Labels": lambda: check_labels(pipeline.labels, data_dir, datetime.now(UTC)),
        "Decoder sandbox": lambda: check_sandbox(pipeline.decoder),
        "Ray agent port": lambda: check_agent_port(AGENT_PORT, num_rays_on(AGENT_PORT)),
        "Ray token": lambda: check_token(os.environ, Path.home()),
    }


def _check_disk_space(pipeline: PipelineConfig) -> CheckResult:
    """Checks free space where files are stored or cached."""
    if pipeline.files is not None:
        return check_cache(pipeline)
    return check_free_space(pipeline.data_dir, pipeline.jobs.min_free_bytes)


def _all(checks: Mapping[str, _Check]) -> list[CheckResult]:
    results: list[CheckResult] = []
    for name, check in checks.items():
        try:
            found = check()
        except Exception as error:  # the other checks still run
            fix = "Check the permissions of this user; the other checks are not affected."
            found = problem(f"{type(error).__name__}: {error}", "a check that can run", fix)
        results += found if isinstance(found, list) else [found.named(name)]
    return results
