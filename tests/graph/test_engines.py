"""Every engine does real jobs through the graph: weights that nobody trained, noise on the face, all else as it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.engines.weights.store import WeightsStore
from tests.faults.load import FINAL, IS_ENDURANCE, Caller, Pair, digest, num_frames
from tests.faults.service_process import ServiceProcess, config_with, served
from tests.graph.engine_pictures import FRAMES, bring_weights, change, planes_of, track_of
from tests.graph.inputs import long_wav
from tests.graph.work_watch import WorkWatch

JOB_S = 120.0
FPS = 25
SLOW = "dinet:original"
ENGINES = [engine for engine in FRAMES if engine != SLOW or IS_ENDURANCE]
MAX_END_S = 4.0  # a face takes a fraction of a second, where nothing else runs


class Made:
    """The results of the engines, each made when a test first asks for it."""

    def __init__(self, caller: Caller, sample_video: Path, speech: Path) -> None:
        self.caller = caller
        self.source = sample_video.read_bytes()
        self._speech = speech
        self._videos: dict[str, bytes] = {}

    def pair(self, num: int) -> Pair:
        """The avatar, and speech that ends inside frame `num`."""
        return Pair(self.source, long_wav(self._speech, (num - 0.5) / FPS))

    def render_again(self, engine: str) -> bytes:
        """The video of one more job."""
        job_id = self.caller.accepted(self.pair(FRAMES[engine]), engine=engine)
        job = self.caller.wait([job_id], JOB_S)[job_id]
        assert job["status"] == "succeeded", job["error"]
        return self.caller.video(job_id)

    def video(self, engine: str) -> bytes:
        """The video of the first job."""
        if engine not in self._videos:
            self._videos[engine] = self.render_again(engine)
        return self._videos[engine]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with weights for all engines."""
    folder = tmp_path_factory.mktemp("brought")
    bring_weights(WeightsStore(folder / "data" / "weights"), folder)
    return folder / "data"


@pytest.fixture(scope="module")
def service(data: Path) -> Iterator[ServiceProcess]:
    """A service whose results are lossless and unmarked, so that what is untouched is untouched to the bit."""
    with served(
        data, config_with(data.parent, render={"crf": 0, "segment_seconds": 1.0}, labels={"invisible": False})
    ) as service:
        yield service


@pytest.fixture(scope="module")
def made(service: ServiceProcess, sample_video: Path, short_speech: Path) -> Made:
    return Made(Caller(service.url), sample_video, short_speech)


def avatar_of(data: Path) -> Path:
    """The only avatar's folder."""
    (folder,) = (data / "avatars").iterdir()
    return folder


def test_the_engines_are_listed(made: Made) -> None:
    listed = made.caller.request("GET", "/v1/engines").json()
    installed = {engine["name"] for engine in listed["engines"] if engine["is_installed"]}
    assert installed == {"warp", *(engine for engine in FRAMES if "+" not in engine)}
    assert [(step["name"], step["is_installed"]) for step in listed["steps"]] == [("restoration", True)]
    (musetalk,) = (engine for engine in listed["engines"] if engine["name"] == "musetalk")
    assert [role["role"] for role in musetalk["missing"]] == ["unet", "vae", "whisper"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_job_is_done(made: Made, data: Path, engine: str) -> None:
    video = made.video(engine)
    assert num_frames(video) == FRAMES[engine]
    seen = change(made.source, video, track_of(avatar_of(data)))
    assert seen.num_outside == 0, "outside of the face nothing changes"
    assert seen.mouth.min() > 3, "every mouth is generated"
    assert digest(made.render_again(engine)) == digest(video)


def test_restoration_changes_what_an_engine_painted(made: Made) -> None:
    generated, restored = planes_of(made.video("edtalk"))[0], planes_of(made.video("edtalk+restoration"))[0]
    assert (generated[: len(restored)] != restored).any((1, 2)).all()


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("musetalk", "lipwright models add FILE_OR_URL --engine musetalk --role unet"),
        ("wav2lip:gan", "expected one of warp, "),
        ("warp+magic", "expected one of restoration after the plus"),
    ],
)
def test_what_cannot_be_done_is_refused_on_submission(made: Made, engine: str, message: str) -> None:
    answer = made.caller.submit(made.pair(5), engine=engine)
    assert (answer.status_code, answer.json()["code"]) == (422, "option_invalid")
    assert message in answer.json()["detail"]


def test_an_avatar_is_tracked_once_for_all_engines(made: Made, data: Path) -> None:
    made.video(ENGINES[0])
    (track,) = avatar_of(data).rglob("track*.npz")
    before = track.stat()
    for engine in ENGINES:
        made.video(engine)
    after = track.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    kept = sorted(folder.name for folder in (avatar_of(data) / "engines").iterdir())
    original = ["dinet-1-original"] if SLOW in ENGINES else []
    assert kept == ["dinet-1-heygem-resize", *original, "edtalk-1", "ultralight-1", "wav2lip-1"]


@pytest.mark.endurance
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
    assert digest(made.render_again("wav2lip")) == digest(made.video("wav2lip")), "the next one is served"


@pytest.mark.endurance
@pytest.mark.timeout(1800)
def test_musetalk_in_its_published_size(sample_video: Path, short_speech: Path, tmp_path: Path) -> None:
    """On a CPU a frame takes a quarter of a minute or more, which the bounds of a service for GPUs do not allow."""
    pytest.importorskip("diffusers", reason="needs the extra musetalk")
    from tests.random_weights.musetalk import save_musetalk

    store = WeightsStore(tmp_path / "data" / "weights")
    for path in save_musetalk(tmp_path).values():
        store.add(path, "musetalk")
        path.unlink()
    lossless: dict[str, Any] = {"render": {"crf": 0}, "labels": {"invisible": False}}
    slow = {"jobs": {"min_call_timeout_s": 900.0}, "engine_cache": {"load_timeout_s": 600.0}}
    with served(tmp_path / "data", config_with(tmp_path, **lossless, **slow)) as service:
        caller = Caller(service.url)
        pair = Pair(sample_video.read_bytes(), long_wav(short_speech, 1.5 / FPS))
        videos = []
        for _ in range(2):
            job_id = caller.accepted(pair, engine="musetalk")
            job = caller.wait([job_id], 900)[job_id]
            assert job["status"] == "succeeded", job["error"]
            videos.append(caller.video(job_id))
        assert digest(videos[0]) == digest(videos[1])
        seen = change(pair.video, videos[0], track_of(avatar_of(tmp_path / "data")))
        assert (len(seen.mouth), seen.num_outside) == (2, 0)
        assert seen.mouth.min() > 3
