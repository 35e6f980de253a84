"""`ray job submit -- python -m cluster.batch` on a real cluster: with nothing running, and beside the API."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import psutil
import pytest
import yaml

from benchmarks.media_files import read_wav, write_wav
from tests.cluster.local_cluster import LocalCluster, is_ready
from tests.waiting import wait_until

NUM_FRAMES = 34  # speech_short.wav lasts 1.32 s; a portrait gives 25 frames a second, and so does presenter.mp4
NUM_PAIRS = 12
DEPLOY_S = 200.0

pytestmark = pytest.mark.slow


def _manifest(folder: Path, samples: Path, *pairs: dict[str, str]) -> Path:
    """Write `pairs`; their inputs are sample files by name, or files beside the manifest."""
    for pair in pairs:
        for name in ("video", "audio"):
            if (samples / pair[name]).is_file():
                pair[name] = str(samples / pair[name])
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(json.dumps(pair) for pair in pairs), encoding="utf-8")
    return path


def _reports(done: subprocess.CompletedProcess[str]) -> dict[int, dict[str, Any]]:
    """The JSON lines of a job by the manifest's line. The tail of a failed job's log is printed once more."""
    reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"line"')]
    return {report["line"]: report for report in reports}


def _frames(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Luma of every frame, (N, H, W); the sound has to last as long as the picture."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.duration and video.time_base and audio.duration and audio.time_base
        assert abs(float(video.duration * video.time_base - audio.duration * audio.time_base)) <= 1 / 25
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video)]
    return np.stack(frames)


def test_submitted_batch_with_one_bad_pair_makes_the_others(
    cluster: LocalCluster, serve_config: dict[str, Any], samples: Path, tmp_path: Path
) -> None:
    config = tmp_path / "serve_config.yaml"
    config.write_text(yaml.safe_dump(serve_config), encoding="utf-8")
    (tmp_path / "noise.wav").write_bytes(np.random.default_rng(1).bytes(3000))
    manifest = _manifest(
        tmp_path,
        samples,
        {"video": "portrait.jpg", "audio": "speech_short.wav", "out": "portrait.mp4"},
        {"video": "portrait.jpg", "audio": "noise.wav", "out": "bad.mp4"},
        {"video": "presenter.mp4", "audio": "speech_short.wav", "out": "sub/presenter.mp4", "loop": "loop"},
    )
    out = tmp_path / "results"
    options = ("--out", str(out), "--serve-config", str(config))
    done = cluster.submit_job("python", "-m", "cluster.batch", "--json", str(manifest), *options)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "failed with exit code 1" in done.stdout + done.stderr
    reports = _reports(done)
    assert [reports[line]["status"] for line in (1, 2, 3)] == ["succeeded", "failed", "succeeded"], reports
    assert reports[2]["error"]["code"] == "media_invalid"
    assert "noise.wav" in reports[2]["error"]["message"]
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.mp4")} == {"portrait.mp4", "sub/presenter.mp4"}
    still = _frames(out / "portrait.mp4")
    assert len(still) == len(_frames(out / "sub" / "presenter.mp4")) == NUM_FRAMES
    change = np.abs(still.astype(np.int16) - still[0]).max(axis=0)
    assert (change > 40).sum() > 20, "the lips of a still picture move"
    # The batch started the application, so it took it down, and Serve with it.
    status = cluster.serve_status()
    assert (status["applications"], status["proxies"]) == ({}, {})


@pytest.mark.endurance
def test_submitted_batch_after_kill_makes_the_missing_outputs(
    cluster: LocalCluster, serve_config: dict[str, Any], samples: Path, tmp_path: Path
) -> None:
    """Beside a running application, whose data folder nobody names."""
    url = cluster.deploy(serve_config)
    (tmp_path / "noise.wav").write_bytes(np.random.default_rng(1).bytes(3000))
    spoken, rate = read_wav(samples / "speech_short.wav")
    write_wav(tmp_path / "word.wav", spoken[: rate // 2], rate)
    sounds = ["noise.wav" if number == 7 else "word.wav" for number in range(1, NUM_PAIRS + 1)]
    manifest = _manifest(
        tmp_path,
        samples,
        *({"video": "portrait.jpg", "audio": each, "out": f"{line}.mp4"} for line, each in enumerate(sounds, 1)),
    )
    record, batch = tmp_path / "manifest.results.jsonl", ("python", "-m", "cluster.batch", "--json", str(manifest))
    with httpx.Client(base_url=url, timeout=60) as client:
        num_before = len(client.get("/v1/jobs", params={"limit": 100}).json()["jobs"])
        _kill_in_the_middle(cluster, record, *batch, "--max-in-flight", "2")
        finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.mp4")}
        reported = {json.loads(line)["line"] for line in record.read_text().splitlines()[1:] if line.endswith("}")}
        done = cluster.submit_job(*batch)
        num_jobs = len(client.get("/v1/jobs", params={"limit": 100}).json()["jobs"]) - num_before
    assert done.returncode == 1, done.stdout + done.stderr
    assert set(_reports(done)) == set(range(1, NUM_PAIRS + 1)) - reported
    assert re.search(r"failed: line 7, \S+/7.mp4: media_invalid: .*noise.wav", done.stdout + done.stderr)
    assert f"{NUM_PAIRS} of {NUM_PAIRS} done, 1 failed" in done.stdout + done.stderr
    made = list(tmp_path.glob("*.mp4"))
    assert len(made) == num_jobs == NUM_PAIRS - 1, "what the killed batch had begun was gone on with"
    kept = {path: time_ns for path, time_ns in finished.items() if int(path.stem) in reported}
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    application = cluster.serve_status()["applications"]["lipwright"]
    assert application["status"] == "RUNNING", "a batch leaves alone what it did not start"
    # One Studio a node, so both run only if they are on two nodes.
    assert application["deployments"]["Studio"]["replica_states"] == {"RUNNING": 2}


@pytest.mark.endurance
def test_local_first_router_prefers_the_own_node(cluster: LocalCluster) -> None:
    """Also shows what Serve does by default."""
    done = cluster.submit_job("python", "-m", "tests.cluster.near_and_far")
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = {line for line in done.stdout.splitlines() if line.startswith('{"near"')}
    found = json.loads(line)
    assert found["near"]["other"] == 0
    assert found["anywhere"]["other"] > 5


@pytest.mark.endurance
def test_face_synthesis_autoscales_by_fraction_of_a_gpu(
    cluster: LocalCluster, serve_config: dict[str, Any], samples: Path
) -> None:
    """The paced graph in place of the real one, and one node more, with a GPU that only Ray believes in."""
    node = cluster.add_node("--num-gpus=1")
    config = copy.deepcopy(serve_config)
    (application,) = config["applications"]
    application["import_path"] = "tests.cluster.paced_graph:build"
    application["args"] |= {"engine": "paced", "render": {"chunk_frames": 4}}
    (faces,) = [each for each in application["deployments"] if each["name"] == "FaceSynthesis"]
    del faces["num_replicas"]
    faces["ray_actor_options"] = {"num_cpus": 0, "num_gpus": 0.5}
    quick = {"upscale_delay_s": 0, "downscale_delay_s": 1, "look_back_period_s": 2}
    faces["autoscaling_config"] = {"min_replicas": 0, "max_replicas": 3, "target_ongoing_requests": 0.5, **quick}
    url = cluster.deploy(config)
    files = {name: (samples / name).read_bytes() for name in ("portrait.jpg", "speech_short.wav")}
    with httpx.Client(base_url=url, timeout=30) as client:
        wait_until(lambda: cluster.nodes_with("FaceSynthesis") == [] and is_ready(url), DEPLOY_S)
        fields = {"video": files["portrait.jpg"], "audio": files["speech_short.wav"]}
        job_id = client.post("/v1/jobs", files=fields).raise_for_status().json()["id"]
        wait_until(lambda: cluster.nodes_with("FaceSynthesis") == [node] * 2, DEPLOY_S)
        wait_until(lambda: client.get(f"/v1/jobs/{job_id}").json()["status"] == "succeeded", DEPLOY_S)
    wait_until(lambda: cluster.nodes_with("FaceSynthesis") == [], DEPLOY_S)


def _kill_in_the_middle(cluster: LocalCluster, record: Path, *batch: str) -> None:
    """SIGKILL to a batch that has recorded some pairs and not all of them."""
    started = cluster.run("ray", "job", "submit", "--no-wait", "--", *batch)
    assert started.returncode == 0, started.stdout + started.stderr
    wait_until(lambda: record.exists() and len(record.read_text().splitlines()) >= 4, DEPLOY_S, 0.02)
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            command = process.cmdline()
            if batch[-1] in command and "cluster.batch" in command:
                process.kill()
    assert len(record.read_text().splitlines()) <= NUM_PAIRS, "it ended before it could be killed"
