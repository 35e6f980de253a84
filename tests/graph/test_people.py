from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.media_files import write_film
from config import MediaLimits
from media.audio import extract_speech
from models.speech.level import open_speech
from storage.file_keys import AVATARS
from tests.graph.test_main_job import DEADLINE_S, job_of, luma_of, made_avatar, result_of, submit, wait_until_final
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
        pictures = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]
    extract_speech(sample_video, folder / "speech.npy", MediaLimits())
    sound = np.array(open_speech(folder / "speech.npy"))[: 16000 * NUM_FRAMES // FPS]
    both = (np.concatenate([silent, _square(each)], 1) for each in pictures[:NUM_FRAMES])
    frames = (av.VideoFrame.from_ndarray(each, format="rgb24") for each in both)
    write_film(folder / "film.mp4", frames, FPS, {"crf": "12", "preset": "veryfast"}, sound)
    return folder / "film.mp4"


@pytest.fixture(scope="module")
def found(client: httpx.Client, film: Path) -> dict[str, Any]:
    people = f"/v1/avatars/{made_avatar(client, film)}/people"
    wait_until(lambda: client.get(people).raise_for_status().status_code != 202, DEADLINE_S, 1)
    return dict(client.get(people).json())


def test_people_of_a_film_are_found_with_the_speaker(client: httpx.Client, found: dict[str, Any]) -> None:
    assert len(found["people"]) == 2
    for person in found["people"]:
        assert person["seen"] == [{"start": 0, "end": NUM_FRAMES / FPS}]
        thumbnail = client.get(person["thumbnail"]).raise_for_status().content
        picture = cv2.imdecode(np.frombuffer(thumbnail, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None and 40 <= max(picture.shape[:2]) <= 160
    silent, speaker = sorted(found["people"], key=lambda person: person["speaking_seconds"])
    assert silent["speaking_seconds"] == 0 and speaker["speaking_seconds"] > 1.5


def test_create_job_with_person_animates_only_that_person(
    client: httpx.Client, found: dict[str, Any], film: Path, speech: Path, tmp_path: Path
) -> None:
    silent = min(found["people"], key=lambda person: person["speaking_seconds"])["number"]
    job = submit(client, {"video": film, "audio": speech}, face=f"person:{silent}", loop="cut")
    result = result_of(client, wait_until_final(client, job["id"]), tmp_path / "result.mp4")
    pairs = zip(luma_of(result), luma_of(film), strict=False)
    change = np.max([np.abs(a - b) for a, b in pairs], axis=0)  # (H, W) the largest of all frames
    assert np.quantile(change[:, :SIDE], 0.99) > 30, "the mouth of the silent one moves"
    assert np.quantile(change[:, SIDE:], 0.99) < 20, "the other one is only encoded again"


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


def _film(picture: Path, out: Path) -> Path:
    """A second of the person in a picture."""
    bgr = cv2.imread(str(picture))
    assert bgr is not None
    small = np.asarray(cv2.resize(bgr, (256, 256), interpolation=cv2.INTER_AREA), np.uint8)
    moved = (av.VideoFrame.from_ndarray(np.roll(small, number % 3, 0), format="bgr24") for number in range(26))
    write_film(out, moved, 25, {"preset": "veryfast"})
    return out


def test_job_on_avatar_with_clip_plays_both(
    client: httpx.Client, service_data: Path, samples: Path, sample_video: Path, short_speech: Path, tmp_path: Path
) -> None:
    content = sample_video.read_bytes() + b"\0\0\0\x08free"  # an avatar that other tests do not have
    created = client.post("/v1/avatars", files={"video": ("a.mp4", content)}).raise_for_status().json()
    path = f"/v1/avatars/{created['id']}"
    for name, picture in (("smile", "portrait.jpg"), ("stranger", "portrait_closed.jpg")):
        film = _film(samples / picture, tmp_path / f"{name}.mp4")  # the sample presenter is the person of the first
        files, fields = {"video": (film.name, film.read_bytes())}, {"name": name, "kind": "idle"}
        client.post(f"{path}/clips", files=files, data=fields).raise_for_status()

    def clips() -> dict[str, Any]:
        return {clip["name"]: clip for clip in client.get(f"{path}/clips").json()["clips"]}

    wait_until(lambda: all(clip["status"] != "analysing" for clip in clips().values()), DEADLINE_S, 0.5)
    found = clips()
    assert (found["smile"]["status"], found["stranger"]["status"]) == ("ready", "failed"), found
    assert "does not show the person of the avatar" in found["stranger"]["error"]["message"]
    assert client.get(found["smile"]["thumbnail"]).headers["content-type"] == "image/jpeg"
    job = submit(client, {"audio": short_speech}, avatar_id=created["id"])
    assert client.delete(path).status_code == 409, "the job needs the composite"
    job = wait_until_final(client, job["id"])
    assert job["status"] == "succeeded", job["error"]
    assert (job["options"]["loop"], job["num_frames_done"]) == ("natural", job["num_frames"])
    assert client.get(job["links"]["source"]).content == content, "what was sent, not the composite"
    before = len(list((service_data / AVATARS).iterdir()))
    assert client.delete(path).status_code == 204
    assert len(list((service_data / AVATARS).iterdir())) == before - 4, "the avatar, both clips and the composite"
