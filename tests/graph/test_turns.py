"""Two people in one video, each with their own speech, through the real graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from benchmarks.media_files import write_film
from lipwright.config import MediaLimits
from lipwright.media.audio import extract_speech
from tests.browser import Visitor, chromium
from tests.graph.test_main_job import submit, wait_until_final
from tests.unit.media.clips import read_speech

FPS, SECONDS, SIDE = 25, 6, 512
NUM_FRAMES = FPS * SECONDS
TURNS: list[dict[str, Any]] = [
    {"face": f"point:{SIDE // 2},{SIDE // 2}", "start": 0.4, "end": 2.0},
    {"face": f"point:{SIDE * 3 // 2},{SIDE // 2}", "start": 2.6, "end": 4.6, "audio": "audio_2", "audio_start": 0.5},
]
_FADE_FRAMES = 5


def _square(frame: VideoFrame) -> NDArray[np.uint8]:
    side = min(frame.width, frame.height)
    rgb = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    top, left = (frame.height - side) // 2, (frame.width - side) // 2
    cut = VideoFrame.from_ndarray(np.ascontiguousarray(rgb[top : top + side, left : left + side]), format="rgb24")
    return np.asarray(cut.reformat(SIDE, SIDE).to_ndarray(format="rgb24"))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, sample_video: Path, portrait: Path) -> Path:
    """The sample film on the left, the portrait on the right, and a quiet tone as the sound of the room."""
    with av.open(str(sample_video)) as container:
        left = [_square(frame) for frame, _ in zip(container.decode(video=0), range(NUM_FRAMES), strict=False)]
    with av.open(str(portrait)) as container:
        right = _square(next(container.decode(video=0)))
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    both = (np.concatenate([left[number % len(left)], right], axis=1) for number in range(NUM_FRAMES))
    pictures = (VideoFrame.from_ndarray(each, format="rgb24") for each in both)
    tone = 0.2 * np.sin(2 * np.pi * 1000 * np.arange(16000 * SECONDS) / 16000)
    options = {"crf": "10", "preset": "ultrafast", "g": str(FPS)}
    write_film(path, pictures, FPS, options, (32767 * tone).astype(np.int16))
    return path


@pytest.fixture(scope="module")
def job(client: httpx.Client, film: Path, speech: Path, samples: Path) -> dict[str, Any]:
    files = {"video": film, "audio": speech, "audio_2": samples / "speech_short.wav"}
    return wait_until_final(client, submit(client, files, turns=json.dumps(TURNS))["id"])


@pytest.fixture(scope="module")
def result(client: httpx.Client, job: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert job["status"] == "succeeded", job["error"]
    path = tmp_path_factory.mktemp("result") / "result.mp4"
    path.write_bytes(client.get(f"/v1/jobs/{job['id']}/video").raise_for_status().content)
    return path


def _luma(path: Path) -> NDArray[np.int16]:
    with av.open(str(path)) as container:
        planes = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    return np.stack(planes).astype(np.int16)


def _turn_frames(number: int) -> slice:
    turn = TURNS[number]
    return slice(round(turn["start"] * FPS), round(turn["end"] * FPS))


def test_each_person_speaks_in_their_turn_only(film: Path, result: Path) -> None:
    before, after = _luma(film), _luma(result)
    assert before.shape == after.shape
    changed = np.abs(after - before)
    # Of the lower half of each face, the pixels that changed by more than encoding does.
    left, right = ((changed[:, SIDE // 2 :, half] > 24).mean((1, 2)) for half in (slice(0, SIDE), slice(SIDE, None)))
    for moved, number in ((left, 0), (right, 1)):
        turn = _turn_frames(number)
        outside = np.ones(NUM_FRAMES, bool)
        outside[max(turn.start - _FADE_FRAMES, 0) : turn.stop + _FADE_FRAMES] = False
        assert (moved[turn] > 0.002).mean() > 0.5
        assert moved[outside].max() < 0.0005
    assert np.abs(after[:, : SIDE // 4] - before[:, : SIDE // 4]).mean() < 3, "nothing above the faces has changed"


def test_frames_without_a_generated_face_are_those_of_the_source(film: Path, result: Path) -> None:
    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size]

    mine, theirs = packets(result), packets(film)
    begin = 5 * FPS  # the first key frame after the last turn
    assert mine[begin].endswith(theirs[begin])
    assert mine[begin + 1 :] == theirs[begin + 1 :]
    assert mine[begin - 1] != theirs[begin - 1]


def test_the_room_is_heard_outside_of_turns(result: Path, tmp_path: Path) -> None:
    extract_speech(result, tmp_path / "heard.npy", MediaLimits())

    def tone(start: float, stop: float) -> float:
        heard = read_speech(tmp_path / "heard.npy", start, stop)
        carrier = np.exp(-2j * np.pi * 1000 * np.arange(len(heard)) / 16000)
        return float(2 * np.abs((heard * carrier).mean()))

    for start, stop in ((0.05, 0.35), (2.1, 2.5), (4.7, 5.8)):
        assert tone(start, stop) == pytest.approx(0.2, rel=0.15)
    for start, stop in ((0.5, 1.9), (2.7, 4.5)):
        assert tone(start, stop) < 0.02
        assert np.abs(read_speech(tmp_path / "heard.npy", start, stop)).max() > 0.02


def test_the_job_says_who_spoke(job: dict[str, Any]) -> None:
    assert [turn["start"] for turn in job["options"]["turns"]] == [0.4, 2.6]
    assert [speaker["face"] for speaker in job["report"]["speakers"]] == [turn["face"] for turn in TURNS]
    assert job["num_frames"] == NUM_FRAMES


def test_turns_of_the_page(service_url: str, client: httpx.Client, film: Path, samples: Path) -> None:
    with chromium() as browser:
        visitor = Visitor(browser, service_url)
        visitor.page.set_input_files("#face input[type=file]", film)
        visitor.page.check("#several")
        visitor.until("document.querySelectorAll('.people:not(.searching) .person').length === 2")
        visitor.until("[...document.querySelectorAll('.person img')].every((picture) => picture.naturalWidth)")
        for person, start in ((1, "0.4"), (2, "2.6")):
            card = f".person:nth-child({person})"
            visitor.page.set_input_files(f"{card} .add input[type=file]", samples / "speech_short.wav")
            visitor.page.fill(f"{card} .turn input[type=number]", start)
        visitor.picture("several-people")
        visitor.submit()
        visitor.until("document.querySelector('#stage video')?.currentTime > 0.2")  # the preview plays
        visitor.page.reload()
        visitor.until_status("succeeded")
        job = client.get(f"/v1/jobs/{visitor.page.url.partition('#job=')[2]}").json()
    turns = [(turn["face"], turn["start"], round(turn["end"], 1)) for turn in job["options"]["turns"]]
    assert turns == [("person:0", 0.4, 1.7), ("person:1", 2.6, 3.9)]
    assert job["num_frames"] == NUM_FRAMES
    assert visitor.errors == []
