"""Reads the cores, memory, GPUs and file systems of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from lipwright.errors import ConfigError
from lipwright.media.decoding.memory_budget import memory_bytes

_CGROUP: Final = Path("/sys/fs/cgroup")
_GPU_FIELDS: Final = "name,driver_version,memory.total"


@dataclass(frozen=True)
class Gpu:
    """One GPU as reported by the driver."""

    name: str
    driver: str = "unknown"
    memory_bytes: int = 0

    def __str__(self) -> str:
        """Formats the GPU, as in `NVIDIA L4 (24 GiB, driver 580.65)`."""
        return f"{self.name} ({self.memory_bytes / 1024**3:.0f} GiB, driver {self.driver})"


@dataclass(frozen=True)
class FileSystem:
    """The file system of a path.

    Attributes:
        path: The path itself, or the nearest folder above it that exists.
        kind: The file system's type, such as "ext4".
        total_bytes: Its size.
        free_bytes: Bytes that this user can still write.
    """

    path: Path
    kind: str
    total_bytes: int
    free_bytes: int


def num_cpus(cgroup: Path = _CGROUP) -> float:
    """Returns the cores that Ray counts: those of the machine, or fewer with a container quota."""
    cores = float(os.cpu_count() or 1)
    quota, _, period = _text(cgroup / "cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        cores = min(cores, int(quota) / int(period))
    return cores


def available_memory_bytes() -> int:
    """Returns the memory available without swapping, at most the container's limit."""
    return min(psutil.virtual_memory().available, memory_bytes())


def seen_gpus() -> list[Gpu]:
    """Returns the GPUs that the NVIDIA driver reports, none without a driver. Counts device files without nvidia-smi.

    Raises:
        ConfigError: The driver does not respond.
    """
    command = ["nvidia-smi", f"--query-gpu={_GPU_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return [Gpu(str(node)) for node in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"nvidia-smi does not answer: {error}") from error
    if asked.returncode != 0:
        raise ConfigError(f"nvidia-smi fails: {' '.join((asked.stdout + asked.stderr).split())}")
    return [_gpu(line) for line in asked.stdout.splitlines() if line.count(",") == 2]


def file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> FileSystem:
    """Returns the file system that holds `path`, or would hold it."""
    nearest = path.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    usage = shutil.disk_usage(nearest)
    return FileSystem(nearest, _kind(nearest.resolve(), mounts), usage.total, usage.free)


def _kind(path: Path, mounts: Path) -> str:
    kind, depth = "unknown", -1
    for line in _text(mounts).splitlines():
        _, point, found, *_ = line.split()
        folder = Path(point.replace("\\040", " "))
        if path.is_relative_to(folder) and len(folder.parts) >= depth:  # a later mount hides an earlier one
            kind, depth = found, len(folder.parts)
    return kind


def _gpu(line: str) -> Gpu:
    name, driver, mebibytes = (field.strip() for field in line.split(","))
    return Gpu(name, driver, int(float(mebibytes)) * 1024**2 if mebibytes.replace(".", "").isdigit() else 0)


def _text(path: Path) -> str:
    """Return the content of a file of the kernel; an empty string if it is missing, as on macOS."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
