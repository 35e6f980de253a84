"""Two people in one film through the real graph: who they are, who speaks, and a job for one of them."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.media_files import write_film
from lipwright.config import MediaLimits
from lipwright.media.audio import extract_speech
from models.speech.level import open_speech
from tests.graph.test_main_job import DEADLINE_S, job_of, submit, wait_until_final
from tests.unit.speech.openai_server import OpenAIStandIn
from tests.waiting import wait_until

SIDE, NUM_FRAMES, FPS = 256, 60, 25


def _square(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side, left = min(rgb.shape[:2]), max(0, (rgb.shape[1] - rgb.shape[0]) // 2)
    return np.asarray(cv2.resize(rgb[:side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, portrait: Path, sample_video: Path) -> Path:
    """The sample portrait, silent, to the left of the sample presenter, who is heard."""
    folder = tmp_path_factory.mktemp("film")
    bgr = cv2.imread(str(portrait))
    assert bgr is not None
    silent = _square(np.asarray(bgr[..., ::-1], np.uint8))
    with av.open(str(sample_video)) as container:
        speaker = [
            _square(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)) for frame in container.decode(video=0)
        ][:NUM_FRAMES]
    extract_speech(sample_video, folder / "speech.npy", MediaLimits())
    sound = np.array(open_speech(folder / "speech.npy"))[: 16000 * NUM_FRAMES // FPS]
    both = (av.VideoFrame.from_ndarray(np.concatenate([silent, each], 1), format="rgb24") for each in speaker)
    write_film(folder / "film.mp4", both, FPS, {"crf": "12", "preset": "veryfast"}, sound)
    return folder / "film.mp4"


@pytest.fixture(scope="module")
def found(client: httpx.Client, film: Path) -> dict[str, Any]:
    avatar = client.post("/v1/avatars", files={"video": (film.name, film.read_bytes())}).raise_for_status().json()
    deadline = time.monotonic() + DEADLINE_S
    while (answer := client.get(f"/v1/avatars/{avatar['id']}/people").raise_for_status()).status_code == 202:
        assert time.monotonic() < deadline, answer.text
        time.sleep(int(answer.headers["retry-after"]))
    return dict(answer.json())


def _thumbnail(client: httpx.Client, person: dict[str, Any]) -> bytes:
    return client.get(person["thumbnail"]).raise_for_status().content


def test_people_of_a_film_are_found_with_the_speaker(client: httpx.Client, found: dict[str, Any]) -> None:
    assert len(found["people"]) == 2
    for person in found["people"]:
        assert person["seen"] == [{"start": 0, "end": NUM_FRAMES / FPS}]
        picture = cv2.imdecode(np.frombuffer(_thumbnail(client, person), np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None and 40 <= max(picture.shape[:2]) <= 160
    silent, speaker = sorted(found["people"], key=lambda person: person["speaking_seconds"])
    assert silent["speaking_seconds"] == 0 and speaker["speaking_seconds"] > 1.5


def test_create_job_with_person_animates_only_that_person(
    client: httpx.Client, found: dict[str, Any], film: Path, speech: Path, tmp_path: Path
) -> None:
    silent = min(found["people"], key=lambda person: person["speaking_seconds"])["number"]
    job = submit(client, {"video": film, "audio": speech}, face=f"person:{silent}", loop="cut")
    job = wait_until_final(client, job["id"])
    assert job["status"] == "succeeded", job["error"]
    (tmp_path / "result.mp4").write_bytes(client.get(f"/v1/jobs/{job['id']}/video").raise_for_status().content)
    frames = [_luma(path) for path in (tmp_path / "result.mp4", film)]
    num = min(len(each) for each in frames)
    change = np.abs(frames[0][:num] - frames[1][:num]).max(0)  # (H, W) the largest of all frames
    assert np.quantile(change[:, :SIDE], 0.99) > 30, "the mouth of the silent one moves"
    assert np.quantile(change[:, SIDE:], 0.99) < 20, "the other one is only encoded again"


def _luma(path: Path) -> NDArray[np.int16]:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)]).astype(np.int16)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs the program espeak-ng")
def test_translate_to_is_spoken_by_the_person_who_is_heard(
    client: httpx.Client, found: dict[str, Any], film: Path, translator: OpenAIStandIn
) -> None:
    speaker = max(found["people"], key=lambda person: person["speaking_seconds"])["number"]
    job_id = submit(client, {"video": film}, translate_to="German", review="true")["id"]
    wait_until(lambda: job_of(client, job_id)["status"] == "review", DEADLINE_S)
    turns = client.get(f"/v1/jobs/{job_id}/turns").raise_for_status().json()["turns"]
    expected = [("Guten Abend.", "Good evening.", 0.5, 1.5), ("Wer ist da?", "Who is there?", 2.0, NUM_FRAMES / FPS)]
    assert [(turn["text"], turn["original_text"], turn["start"], turn["end"]) for turn in turns] == expected
    assert {turn["face"] for turn in turns} == {f"person:{speaker}"}
    assert all(turn["voice"].startswith("espeak:de") for turn in turns)
    client.post(f"/v1/jobs/{job_id}/approve").raise_for_status()
    job = wait_until_final(client, job_id)
    assert (job["status"], job["options"]["language"]) == ("succeeded", "deu"), job["error"]
    assert translator.seconds == [pytest.approx(NUM_FRAMES / FPS, abs=0.1)], "the film is transcribed once"
    answer = client.post(f"/v1/jobs/{job_id}/revisions", json={"review": True}).raise_for_status()
    wait_until(lambda: job_of(client, answer.json()["id"])["status"] == "review", DEADLINE_S)
    audio = client.get(f"/v1/jobs/{answer.json()['id']}/turns/0/audio").raise_for_status().content
    assert audio == client.get(f"/v1/jobs/{job_id}/turns/0/audio").raise_for_status().content
    client.post(f"/v1/jobs/{answer.json()['id']}/cancel").raise_for_status()


def test_translate_to_with_failing_server_fails_the_job(
    client: httpx.Client, film: Path, translator: OpenAIStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translator, "status", 500)
    job = wait_until_final(client, submit(client, {"video": film}, translate_to="German")["id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "voice_failed")
    assert "The transcription server returned status 500" in job["error"]["message"]


def test_create_job_with_unknown_person_names_num_people(client: httpx.Client, film: Path, short_speech: Path) -> None:
    job = wait_until_final(client, submit(client, {"video": film, "audio": short_speech}, face="person:7")["id"])
    assert job["status"] == "failed" and job["error"]["code"] == "face_not_found"
    assert "person:0 to person:1 (2 people are seen in the video), found 'person:7'" in job["error"]["message"]
