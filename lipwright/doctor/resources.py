"""Checks cores, memory, shared memory and open files against the needs of the Serve config."""

from __future__ import annotations

import os
from typing import Final

from lipwright.doctor.machine import FileSystem
from lipwright.doctor.report import CheckResult, ok, problem, size, warning
from lipwright.launch.environment import ray_folder
from lipwright.launch.serve_config import default_config_path

# ray/_private/ray_constants.py (2.60): DEFAULT_OBJECT_STORE_MEMORY_PROPORTION, REQUIRE_SHM_SIZE_THRESHOLD,
# OBJECT_STORE_MINIMUM_MEMORY_BYTES; _private/utils.py: resolve_object_store_memory.
_STORE_SHARE: Final = 0.3
_STORE_NEEDS_SHM_BYTES: Final = 10**10
_MIN_STORE_BYTES: Final = 75 * 1024**2
_SHM_USED_SHARE: Final = 0.95

_BASE_MEMORY_BYTES: Final = 4 * 1024**3
"""Idle Ray, the replicas with their weights, and their decoded frames, on a machine with two cores."""
_MIN_OPEN_FILES: Final = 8192
"""Recommended by Ray for production machines (ray/_private/worker.py, `init`)."""


def check_cpus(num_cpus: float, wanted: float) -> CheckResult:
    """Checks the number of cores: Ray starts no replica without free CPUs."""
    found = f"{num_cpus:g} cores; the replicas need {wanted:g}"
    if wanted > num_cpus:
        small = default_config_path(has_gpu=False)
        fix = f"Lower num_cpus or num_replicas in the Serve config, or start with --config {small}."
        return problem(found, f"at least {wanted:g} cores: replicas without free CPUs never start", fix)
    return ok(found)


def check_memory(memory_bytes: int, available_bytes: int) -> CheckResult:
    """Checks the memory of the machine or container."""
    found = f"{size(memory_bytes)}, {size(available_bytes)} of it available"
    if available_bytes < _BASE_MEMORY_BYTES:
        fix = "Stop other programs or raise the container's limit; without memory, Ray kills replicas and jobs wait."
        return warning(found, f"{size(_BASE_MEMORY_BYTES)} available", fix)
    return ok(found)


def check_open_files(hard_limit: int) -> CheckResult:
    """Checks the limit of open files; Ray raises the soft limit to the hard limit by itself."""
    if 0 <= hard_limit < _MIN_OPEN_FILES:
        fix = f"ulimit -Hn {_MIN_OPEN_FILES} as root, docker run --ulimit nofile=65536, or systemd LimitNOFILE=65536."
        return warning(str(hard_limit), f"at least {_MIN_OPEN_FILES}", fix)
    return ok("no limit" if hard_limit < 0 else f"up to {hard_limit}")


def store_bytes(available_bytes: int, shm_free_bytes: int, wanted_bytes: int | None) -> int:
    """Returns the object store's size as Ray chooses it."""
    if wanted_bytes is not None:
        return wanted_bytes
    cap = max(_STORE_NEEDS_SHM_BYTES, int(shm_free_bytes * _SHM_USED_SHARE))
    return min(int(available_bytes * _STORE_SHARE), cap)


def check_shared_memory(store_bytes: int, lies_in: FileSystem) -> CheckResult:
    """Checks that the object store fits into shared memory; otherwise Ray puts it on disk.

    Args:
        store_bytes: Size of the store.
        lies_in: The shared memory file system.
    """
    shm = lies_in.path
    free, total = size(lies_in.free_bytes), size(lies_in.total_bytes)
    found = f"{shm}: {free} free of {total}; the object store takes {size(store_bytes)}"
    if lies_in.free_bytes >= store_bytes:
        return ok(found)
    expected = f"{size(store_bytes)} free in {shm}"
    gigabytes = store_bytes * 1.1 / 1024**3
    fix = (
        f"docker run --shm-size={gigabytes:.1f}g; Kubernetes: an emptyDir of medium Memory at {shm}; elsewhere: "
        f"mount -o remount,size={gigabytes:.1f}G {shm}."
    )
    if lies_in.free_bytes >= _MIN_STORE_BYTES:
        fix += f" Or use a smaller store: --object-store-memory {lies_in.free_bytes}."
    if store_bytes > _STORE_NEEDS_SHM_BYTES:
        return problem(f"{found}: Ray will not start", expected, fix)
    place = ray_folder(os.environ)
    return warning(f"{found}: Ray will use a file under {place}, which is slower, never stuck", expected, fix)


def check_object_store(store_bytes: int, in_flight_bytes: int) -> CheckResult:
    """Compares the size of the store with the bytes in transit between deployments at full load."""
    found = f"{size(store_bytes)}; up to {size(in_flight_bytes)} are in transit between deployments at full load"
    enough = max(in_flight_bytes, _MIN_STORE_BYTES)
    fix = f"Use a larger store: --object-store-memory {enough}, or LIPWRIGHT_OBJECT_STORE_BYTES={enough}."
    if store_bytes < _MIN_STORE_BYTES:
        return problem(f"{found}: Ray will not start", f"at least {size(_MIN_STORE_BYTES)}", fix)
    if store_bytes < in_flight_bytes:
        slower = f"{found}: what does not fit is written to disk and read back, which is slower, never stuck"
        return warning(slower, f"at least {size(in_flight_bytes)}", fix)
    return ok(found)
