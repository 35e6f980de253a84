"""Sizes against sizes: what Ray would do with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from doctor.machine import FileSystem, file_system, num_cpus
from doctor.report import Status
from doctor.resources import (
    check_cpus,
    check_memory,
    check_object_store,
    check_open_files,
    check_shared_memory,
    store_bytes,
)
from media.decoding.memory_budget import memory_bytes
from tests.unit.doctor.results import is_mended

MIB, GIB = 1024**2, 1024**3


@pytest.mark.parametrize(
    ("available", "shm_free", "wanted", "expected"),
    [
        (10 * GIB, 64 * MIB, None, 3 * GIB),  # 30 % of the memory
        (10 * GIB, 64 * MIB, 200 * MIB, 200 * MIB),
        (100 * GIB, 64 * MIB, None, 10**10),  # without room in shared memory, Ray stops at 10 GB
        (100 * GIB, 100 * GIB, None, 30 * GIB),
    ],
)
def test_store_bytes_equals_rays_default(available: int, shm_free: int, wanted: int | None, expected: int) -> None:
    from ray._private import ray_constants

    assert store_bytes(available, shm_free, wanted) == pytest.approx(expected, abs=1)
    assert ray_constants.DEFAULT_OBJECT_STORE_MEMORY_PROPORTION == 0.3
    assert ray_constants.REQUIRE_SHM_SIZE_THRESHOLD == 10**10
    assert ray_constants.OBJECT_STORE_MINIMUM_MEMORY_BYTES == 75 * MIB


@pytest.mark.parametrize(
    ("store", "status", "says"),
    [
        (64 * MIB, Status.OK, ""),
        (GIB, Status.WARNING, "slower, never stuck"),
        (11 * 10**9, Status.PROBLEM, "Ray will not start"),
    ],
)
def test_check_shared_memory_smaller_than_the_store(store: int, status: Status, says: str) -> None:
    result = check_shared_memory(store, FileSystem(Path("/dev/shm"), "tmpfs", 64 * MIB, 64 * MIB))
    assert result.status is status
    assert says in result.found
    assert ("--shm-size" in result.fix) == (status is not Status.OK)
    assert "--object-store-memory" not in result.fix  # 64 MiB are fewer than Ray's least


def test_check_shared_memory_proposes_a_store_that_fits() -> None:
    result = check_shared_memory(2 * GIB, FileSystem(Path("/dev/shm"), "tmpfs", GIB, GIB))
    assert result.fix.endswith(f"--object-store-memory {GIB}.")


@pytest.mark.parametrize(
    ("store", "status"), [(70 * MIB, Status.PROBLEM), (200 * MIB, Status.WARNING), (400 * MIB, Status.OK)]
)
def test_check_object_store_smaller_than_the_segments(store: int, status: Status) -> None:
    result = check_object_store(store, in_flight_bytes=384 * MIB)
    assert result.status is status
    assert ("slower, never stuck" in result.found) == (status is Status.WARNING)
    assert ("--object-store-memory 402653184" in result.fix) == (status is not Status.OK)


def test_check_cpus_memory_and_files_too_few_are_reported() -> None:
    assert check_cpus(2, 1.8).status is Status.OK
    assert is_mended(check_cpus(2, 8.75), Status.PROBLEM)
    assert check_memory(8 * GIB, 6 * GIB).status is Status.OK
    assert is_mended(check_memory(8 * GIB, 1 * GIB), Status.WARNING)
    assert check_open_files(-1).status is Status.OK
    assert check_open_files(65536).status is Status.OK
    assert is_mended(check_open_files(1024), Status.WARNING)


def test_num_cpus_and_memory_bytes_read_cgroup_limits(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{64 * MIB}\n")
    assert num_cpus(tmp_path) == 0.5
    assert memory_bytes(tmp_path) == 64 * MIB
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert num_cpus(tmp_path) >= 1
    assert memory_bytes(tmp_path) > 64 * MIB


def test_file_system_of_a_missing_path_is_its_parents(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/a / ext4 rw 0 0\nhost:/b {tmp_path.resolve()} nfs4 rw 0 0\n/dev/c {tmp_path}x xfs rw 0 0\n"
    )
    found = file_system(tmp_path / "a" / "b", mounts)
    assert found.path == tmp_path
    assert found.kind == "nfs4"
    assert 0 < found.free_bytes <= found.total_bytes
