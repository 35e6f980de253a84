"""Files of the data folder that cannot be written for a while: a read-only mount, and a limit on the size of files."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.faults.load import Caller, Pair
from tests.faults.service_process import ServiceProcess, config_with, served
from tests.faults.test_full_disk import small_disk

DISK_MIB = 300
MAX_FILE_BYTES = 200_000
HELD_S = 15.0

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(300)]


def test_jobs_wait_while_files_cannot_be_written(tmp_path: Path, sample_pair: Pair, portrait_pair: Pair) -> None:
    config = config_with(tmp_path, jobs={"min_free_bytes": 2**20})
    with small_disk(tmp_path / "disk", DISK_MIB) as disk, served(disk / "data", config) as service:
        caller = Caller(service.url)
        for unwritable in (_read_only(disk / "data"), _small_files(service)):
            quiet = caller.result(caller.accepted(sample_pair))
            held = caller.accepted(sample_pair)
            with unwritable:
                files = {"video": ("face.mp4", sample_pair.video), "audio": ("speech.wav", sample_pair.audio)}
                refused = httpx.post(f"{service.url}/v1/jobs", files=files, timeout=60, trust_env=False)
                assert (refused.status_code, refused.json()["code"]) == (507, "storage_full"), refused.text
                assert httpx.get(f"{service.url}/healthz", timeout=10, trust_env=False).status_code == 200
                time.sleep(HELD_S)
                assert caller.job(held)["status"] == "running", "it waits"
            assert caller.result(held) == quiet
            assert caller.result(caller.accepted(portrait_pair))


@contextmanager
def _read_only(data_dir: Path) -> Iterator[None]:
    """All folders in the data folder. The job table has open files, for which Linux refuses a remount.

    A folder that is being written to cannot be remounted either, so a mount that nobody uses yet takes its place.
    """
    view = data_dir.parent / "view"
    view.mkdir()
    mounted: list[Path] = []
    try:
        for folder in filter(Path.is_dir, list(data_dir.iterdir())):
            subprocess.run(["mount", "--bind", folder, view], check=True)
            mounted.append(view)
            subprocess.run(["mount", "-o", "remount,bind,ro", view], check=True)
            subprocess.run(["mount", "--bind", view, folder], check=True)
            mounted.append(folder)
        yield
    finally:
        for folder in mounted:
            subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def _small_files(service: ServiceProcess) -> Iterator[None]:
    """As `ulimit -f` limits them, for all processes."""
    _limit(service, MAX_FILE_BYTES)
    try:
        yield
    finally:
        _limit(service, psutil.RLIM_INFINITY)


def _limit(service: ServiceProcess, num_bytes: int) -> None:
    for process in service.processes():
        with suppress(psutil.Error):  # it has ended, or is sandboxed
            process.rlimit(psutil.RLIMIT_FSIZE, (num_bytes, psutil.RLIM_INFINITY))
