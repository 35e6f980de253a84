"""Sizes against sizes: what Ray would do with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from doctor.check_result import CheckResult, Status
from doctor.machine import FileSystem, file_system, num_cpus
from doctor.resources import (
    check_cpus,
    check_memory,
    check_object_store,
    check_open_files,
    check_shared_memory,
    store_bytes,
)
from media.decoding.memory_budget import memory_bytes

MIB, GIB = 1024**2, 1024**3


def _is_mended(result: CheckResult, status: Status) -> bool:
    return result.status is status and bool(result.expected and result.fix)


@pytest.mark.parametrize(
    ("available", "shm_free", "wanted", "expected"),
    [
        (10 * GIB, 64 * MIB, None, 3 * GIB),  # 30 % of the memory
        (10 * GIB, 64 * MIB, 200 * MIB, 200 * MIB),
        (100 * GIB, 64 * MIB, None, 10**10),  # without room in shared memory, Ray stops at 10 GB
        (100 * GIB, 100 * GIB, None, 30 * GIB),
    ],
)
def test_the_store_is_as_large_as_ray_makes_it(
    available: int, shm_free: int, wanted: int | None, expected: int
) -> None:
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
def test_shared_memory_against_the_store(store: int, status: Status, says: str) -> None:
    result = check_shared_memory(store, FileSystem(Path("/dev/shm"), "tmpfs", 64 * MIB, 64 * MIB))
    assert result.status is status
    assert says in result.found
    assert ("--shm-size" in result.fix) == (status is not Status.OK)
    assert "--object-store-memory" not in result.fix  # 64 MiB are fewer than Ray's least


def test_a_store_that_fits_is_proposed() -> None:
    result = check_shared_memory(2 * GIB, FileSystem(Path("/dev/shm"), "tmpfs", GIB, GIB))
    assert result.fix.endswith(f"--object-store-memory {GIB}.")


@pytest.mark.parametrize(
    ("store", "status"), [(70 * MIB, Status.PROBLEM), (200 * MIB, Status.WARNING), (400 * MIB, Status.OK)]
)
def test_the_store_against_what_travels(store: int, status: Status) -> None:
    result = check_object_store(store, in_flight_bytes=384 * MIB)
    assert result.status is status
    assert ("slower, never stuck" in result.found) == (status is Status.WARNING)
    assert ("--object-store-memory 402653184" in result.fix) == (status is not Status.OK)


def test_cores() -> None:
    assert check_cpus(2, 1.8).status is Status.OK
    assert _is_mended(check_cpus(2, 8.75), Status.PROBLEM)


def test_memory_and_open_files() -> None:
    assert check_memory(8 * GIB, 6 * GIB).status is Status.OK
    assert _is_mended(check_memory(8 * GIB, 1 * GIB), Status.WARNING)
    assert check_open_files(-1).status is Status.OK
    assert check_open_files(65536).status is Status.OK
    assert _is_mended(check_open_files(1024), Status.WARNING)


def test_a_container_is_as_large_as_its_limits(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{64 * MIB}\n")
    assert num_cpus(tmp_path) == 0.5
    assert memory_bytes(tmp_path) == 64 * MIB
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert num_cpus(tmp_path) >= 1
    assert memory_bytes(tmp_path) > 64 * MIB


def test_the_file_system_of_a_path_that_is_not_there_yet(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/a / ext4 rw 0 0\nhost:/b {tmp_path.resolve()} nfs4 rw 0 0\n/dev/c {tmp_path}x xfs rw 0 0\n"
    )
    found = file_system(tmp_path / "a" / "b", mounts)
    assert found.path == tmp_path
    assert found.kind == "nfs4"
    assert 0 < found.free_bytes <= found.total_bytes
