"""Little shared memory makes the service slower and nothing else; the doctor says so beforehand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import av
import httpx
import pytest
import yaml

from benchmarks.media_files import write_film
from tests.faults.load import Caller, Pair, digest, num_frames
from tests.faults.service_process import REPO_ROOT, config_with, served
from tests.ports import quiet_port

NUM_JOBS, NUM_FRAMES = 5, 125
WIDTH, HEIGHT = 1920, 1080
MAX_SLOWDOWN, SPARE_S = 4.0, 30.0  # these bound the wait; the print says what it was
STORE_BYTES, SHM_MIB = 200_000_000, 64
# All frames of all jobs travel at once: far more than the small store holds.
RENDER = {"chunk_frames": 32, "max_chunk_bytes": 2**28, "chunk_window": 4, "first_segment_seconds": 5.0}
SPILL_S = 20.0  # Ray's figures lag by ten seconds
IN_SMALL_SHM = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size={SHM_MIB}m tmpfs /dev/shm && exec "$0" "$@"')

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Done:
    """What several jobs at once took and gave.

    Attributes:
        took_s: From the first one sent to the last one done.
        digests: Of the videos.
        log: What the service wrote on its terminal.
    """

    took_s: float
    digests: list[str]
    log: str


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, sample_video: Path, sample_speech: Path) -> Pair:
    """A face that fills a frame of 1080p, and 5 s of speech."""
    video = enlarged(sample_video, tmp_path_factory.mktemp("pair") / "presenter.mp4")
    return Pair(video.read_bytes(), sample_speech.read_bytes())


@pytest.fixture(scope="module")
def ample(tmp_path_factory: pytest.TempPathFactory, pair: Pair) -> Done:
    """The jobs where there is memory enough."""
    assert not wary_checks((), ()), "this machine itself has little memory"
    return rendered(tmp_path_factory.mktemp("ample"), pair)


def test_an_object_store_of_200_mb(tmp_path: Path, pair: Pair, ample: Done) -> None:
    options = ("--object-store-memory", str(STORE_BYTES))
    assert wary_checks(options, ()) == {"Object store"}
    small = rendered(tmp_path, pair, options, metrics_port=quiet_port())
    _compare("an object store of 200 MB", small, ample)


def test_a_dev_shm_of_64_mib(tmp_path: Path, pair: Pair, ample: Done) -> None:
    mounted = subprocess.run([*IN_SMALL_SHM, "true"], capture_output=True, text=True, timeout=20, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"needs the right to mount a small /dev/shm: {mounted.stderr.strip()}")
    assert wary_checks((), IN_SMALL_SHM) == {"Shared memory"}
    small = rendered(tmp_path, pair, inside=IN_SMALL_SHM)
    _compare(f"a /dev/shm of {SHM_MIB} MiB", small, ample)
    assert "instead of /dev/shm" not in ample.log and "instead of /dev/shm" in small.log, "Ray's own warning"


def _compare(what: str, small: Done, ample: Done) -> None:
    print(f"\nsmall store: {NUM_JOBS} jobs of 1080p: ample {ample.took_s:.1f} s, with {what} {small.took_s:.1f} s")
    assert small.digests == ample.digests
    assert small.took_s < MAX_SLOWDOWN * ample.took_s + SPARE_S


def rendered(
    folder: Path,
    pair: Pair,
    options: tuple[str, ...] = (),
    inside: tuple[str, ...] = (),
    metrics_port: int = 0,
) -> Done:
    """Start a service, send all jobs at once, and wait for them; with a port, for what overflowed the store, too."""
    options = (*options, "--metrics-port", str(metrics_port))
    with served(folder / "data", _config(folder), options, inside) as service:
        caller = Caller(service.url)
        started = time.monotonic()
        ids = [caller.accepted(pair) for _ in range(NUM_JOBS)]
        final = caller.wait(ids, 200)
        took_s = time.monotonic() - started
        assert [final[job_id]["error"] for job_id in ids] == [None] * NUM_JOBS
        videos = [caller.video(job_id) for job_id in ids]
        assert [num_frames(video) for video in videos] == [NUM_FRAMES] * NUM_JOBS
        if metrics_port:
            _wait_for_spilled_bytes(metrics_port)
    return Done(took_s, [digest(video) for video in videos], (folder / "service.log").read_text(encoding="utf-8"))


def _config(folder: Path) -> Path:
    """This machine's config, with a Studio that renders all jobs at once."""
    path = config_with(folder, render=RENDER, jobs={"max_running_jobs": NUM_JOBS})
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    for deployment in config["applications"][0]["deployments"]:
        if deployment["name"] == "Studio":
            deployment["max_ongoing_requests"] = NUM_JOBS
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def wary_checks(options: tuple[str, ...], inside: tuple[str, ...]) -> set[str]:
    """Names of the doctor's checks that say that the service will be slower."""
    command = [*inside, sys.executable, "-m", "lipwright.cli", "doctor", "--json", *options]
    done = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, timeout=60, check=False)
    findings = json.loads(done.stdout)["findings"]
    return {
        finding["check"]
        for finding in findings
        if finding["status"] == "warning" and "slower, never stuck" in finding["found"]
    }


def _wait_for_spilled_bytes(metrics_port: int) -> None:
    """Until Ray says that more travelled than the store holds: it wrote the rest to the disk."""
    pattern = r'^ray_spill_manager_objects_bytes{[^}]*State="Spilled"[^}]*} (\S+)$'
    deadline = time.monotonic() + SPILL_S
    while True:
        scraped = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics", trust_env=False, timeout=20).text
        if spilled := sum(float(value) for value in re.findall(pattern, scraped, re.MULTILINE)):
            print(f"\nsmall store: {spilled / 1e6:.0f} MB spilled")
            return
        assert time.monotonic() < deadline, "all fitted into the small store"
        time.sleep(1)


def enlarged(video: Path, out: Path) -> Path:
    """`video`, its face filling a frame of 1080p."""
    with av.open(str(video)) as source:
        larger = (frame.reformat(WIDTH, HEIGHT, "yuv420p") for frame in source.decode(video=0))
        write_film(out, larger, 25, {"crf": "20", "preset": "ultrafast"})
    return out
