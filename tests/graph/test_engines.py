"""Every engine does real jobs through the graph: weights that nobody trained, noise on the face, all else as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.engines.weights.store import WeightsStore
from tests.faults.load import Caller, Pair, digest
from tests.faults.service_process import ServiceProcess, config_with, served
from tests.graph.engine_jobs import FPS, Made, avatar_of, lossless_service
from tests.graph.engine_pictures import FRAMES, bring_weights, change, planes_of, track_of
from tests.graph.inputs import long_wav


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with weights for all engines."""
    folder = tmp_path_factory.mktemp("brought")
    bring_weights(WeightsStore(folder / "data" / "weights"), folder)
    return folder / "data"


@pytest.fixture(scope="module")
def service(data: Path) -> Iterator[ServiceProcess]:
    with lossless_service(data) as service:
        yield service


@pytest.fixture(scope="module")
def made(service: ServiceProcess, sample_video: Path, short_speech: Path) -> Made:
    return Made(Caller(service.url), sample_video, short_speech, FRAMES)


def test_the_engines_are_listed(made: Made) -> None:
    listed = made.caller.request("GET", "/v1/engines").json()
    installed = {engine["name"] for engine in listed["engines"] if engine["is_installed"]}
    assert installed == {"warp", *(engine for engine in FRAMES if "+" not in engine)}
    assert [(step["name"], step["is_installed"]) for step in listed["steps"]] == [("restoration", True)]
    (musetalk,) = (engine for engine in listed["engines"] if engine["name"] == "musetalk")
    assert [role["role"] for role in musetalk["missing"]] == ["unet", "vae", "whisper"]


@pytest.mark.parametrize("engine", FRAMES)
def test_a_job_is_done(made: Made, data: Path, engine: str) -> None:
    made.check(engine, data)


def test_restoration_changes_what_an_engine_painted(made: Made) -> None:
    generated, restored = planes_of(made.video("wav2lip"))[0], planes_of(made.video("wav2lip+restoration"))[0]
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
    made.video("wav2lip")
    (track,) = avatar_of(data).rglob("track*.npz")
    before = track.stat()
    for engine in FRAMES:
        made.video(engine)
    after = track.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    kept = sorted(folder.name for folder in (avatar_of(data) / "engines").iterdir())
    assert kept == ["wav2lip-1"]


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
