"""The container image: built, run as cluster/compose.yaml says, stopped, restarted and killed."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from lipwright_client import Lipwright
from tests.container.image import IMAGE, Container, Podman
from tests.faults.load import Caller, Pair, num_frames
from tests.postgres import PostgresServer
from tests.s3_server import CREDENTIALS, S3Server

_MAX_IMAGE_BYTES = 2.6e9
_GRACE_S = 60.0

pytestmark = pytest.mark.timeout(1800)


def test_image_is_smaller_than_its_limit(podman: Podman) -> None:
    size = int(podman.run("image", "inspect", "--format={{.Size}}", IMAGE))
    print(f"\nimage: {size / 1e9:.2f} GB")
    assert size < _MAX_IMAGE_BYTES


def test_container_renders_and_keeps_the_job_over_a_restart(podman: Podman, samples: Path, tmp_path: Path) -> None:
    container = Container(podman, "one")
    container.start()
    with Lipwright(container.url) as lipwright:
        job = lipwright.jobs.create(video=samples / "portrait.jpg", audio=samples / "speech_short.wav")
        lipwright.jobs.wait(job.id, timeout_s=240).check()
    of_processes = container.execute("sh", "-c", "cat /proc/[0-9]*/status")
    assert set(re.findall(r"^[UG]id:(.*)$", of_processes, re.M)) == {"\t1000" * 4}
    assert set(re.findall(r"^Cap\w+:\t(\w+)$", of_processes, re.M)) == {"0" * 16}
    assert set(re.findall(r"^NoNewPrivs:\t(\d)$", of_processes, re.M)) == {"1"}
    report = json.loads(container.execute("lipwright", "doctor", "--json"))
    print([each for each in report["findings"] if each["status"] != "ok"])
    assert report["status"] != "problem", report
    (address,) = [each["found"] for each in report["findings"] if each["check"] == "HTTP port"]
    assert address.startswith(f"{container.url}: the service of /srv/lipwright/data") and address.endswith(" is ready")
    started = time.monotonic()
    assert container.stop() == 0
    took_s = time.monotonic() - started
    print(f"stopped after {took_s:.1f} s")
    assert took_s < _GRACE_S, "it was killed"
    container.start()
    with Lipwright(container.url) as lipwright:
        assert lipwright.jobs.get(job.id).status == "succeeded"
        lipwright.jobs.download(job.id, tmp_path / "result.mp4")
    assert num_frames((tmp_path / "result.mp4").read_bytes()) == 34
    assert container.stop() == 0


def test_job_of_a_killed_container_is_finished_by_another(
    podman: Podman, postgres: PostgresServer, s3: S3Server, long_pair: Pair
) -> None:
    shared = {"LIPWRIGHT_STATE": postgres.new_database(), "LIPWRIGHT_FILES": s3.new_bucket(), **CREDENTIALS}
    first, second = Container(podman, "first", shared), Container(podman, "second", shared)
    first.start()
    second.start()
    job_id = Caller(first.url).rendering(long_pair)
    first.kill()
    caller = Caller(second.url)
    job = caller.wait([job_id], 300)[job_id]
    assert job["status"] == "succeeded", job
    assert num_frames(caller.video(job_id)) == 375
    assert second.stop() == 0
