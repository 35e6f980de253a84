"""Every engine does real jobs through the graph, with untrained weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from classic_weights.dinet import save_dinet
from classic_weights.dinet_exports import export_deepspeech, export_generator, export_wenet
from classic_weights.edtalk import save_edtalk
from classic_weights.ultralight import save_hubert, save_ultralight, save_wenet
from models.engines.weights.store import WeightsStore
from tests.faults.load import FINAL, Caller, digest
from tests.faults.service_process import ServiceProcess
from tests.graph.engine_jobs import FPS, JOB_S, Made, avatar_of, lossless_service
from tests.graph.engine_pictures import add_files
from tests.graph.work_watch import WorkWatch

pytestmark = pytest.mark.endurance  # a service of its own

SLOW = "dinet:original"
FRAMES = {"dinet": 26, SLOW: 3, "ultralight": 26, "ultralight:wenet": 10, "edtalk": 26}
MAX_END_S = 4.0  # a face takes a fraction of a second, where nothing else runs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with weights for all engines."""
    folder = tmp_path_factory.mktemp("brought")
    files = {
        "dinet": (export_generator(folder / "dinet_v1.onnx"), export_wenet(folder / "wenet.onnx")),
        SLOW: (save_dinet(folder / "dinet.pth"), export_deepspeech(folder / "deepspeech.onnx")),
        "ultralight": (save_ultralight(folder / "anna.pth"), save_hubert(folder / "hubert.onnx")),
        "ultralight:wenet": (save_ultralight(folder / "bert.pth", "wenet"), save_wenet(folder / "encoder.onnx")),
        "edtalk": (save_edtalk(folder / "edtalk_256.onnx"),),
    }
    add_files(WeightsStore(folder / "data" / "weights"), files)
    return folder / "data"


@pytest.fixture(scope="module")
def service(data: Path) -> Iterator[ServiceProcess]:
    with lossless_service(data) as service:
        yield service


@pytest.fixture(scope="module")
def made(service: ServiceProcess, samples: Path) -> Made:
    return Made(Caller(service.url), samples / "presenter.mp4", samples / "speech_short.wav", FRAMES)


@pytest.mark.parametrize("engine", FRAMES)
def test_a_job_is_done(made: Made, data: Path, engine: str) -> None:
    made.check(engine, data)


def test_each_engine_keeps_its_own_analysis(made: Made, data: Path) -> None:
    for engine in FRAMES:
        made.video(engine)
    kept = sorted(folder.name for folder in (avatar_of(data) / "engines").iterdir())
    assert kept == ["dinet-1-heygem-resize", "dinet-1-original", "edtalk-1", "ultralight-1"]


def test_a_slow_job_is_cancelled_while_its_faces_are_made(made: Made, service: ServiceProcess, data: Path) -> None:
    began = time.monotonic()
    made.render_again(SLOW)  # what loads is loaded
    few_s = time.monotonic() - began
    watch, generation = WorkWatch(service), WorkWatch(service, ("FaceSynthesis",))
    job_id = made.caller.accepted(made.pair(FPS), engine=SLOW)
    deadline = time.monotonic() + JOB_S
    while not ((job := made.caller.job(job_id))["stage"] == "rendering" and generation.is_working()):
        assert job["status"] not in FINAL, job
        assert time.monotonic() < deadline, job
    assert made.caller.job(job_id)["num_frames_done"] == 0, "all its faces are in one chunk, seconds of work"
    started = time.monotonic()
    assert made.caller.request("DELETE", f"/v1/jobs/{job_id}").json()["status"] == "cancelled"
    rest_s = watch.seconds_to_rest(started, max_s=60)
    print(f"\ncancel of {SLOW}: at rest after {rest_s:.2f} s")
    # All its faces take several times as long as those few.
    assert rest_s < max(MAX_END_S, few_s), "no face more is made, and the replica need not be replaced"
    assert not (data / "jobs" / job_id).exists()
    assert not watch.open_files_under(data / "jobs" / job_id)
    assert made.caller.request("GET", "/v1/status").json()["queue"]["num_running"] == 0
    assert digest(made.render_again("edtalk")) == digest(made.video("edtalk")), "the next one is served"
