"""Sends hostile inputs to a running service and says what became of each."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import av
import httpx
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

import errors

Role = Literal["video", "audio", "filename", "path"]
Expect = Literal["accept", "reject", "either"]
Mouth = Literal["moves", "rests", "any"]

CASE_S: Final = 120.0  # wall clock of a busy machine; a refusal takes `limits.open_timeout_s`, and twice that at most
"""Seconds in which a case is refused, and in which an accepted one moves on."""
_MOVING: Final = 0.02
_RESTING: Final = 0.01
"""Standard deviation of the mouth's opening (eye distances) that a moving mouth has at least, a resting one at most."""
_LONGEST_S: Final = 400.0  # ten minutes of sound are rendered meanwhile
FINAL: Final = ("succeeded", "failed", "cancelled")
_LEAKS: Final = re.compile(r"Traceback|File \"|root:.:0|/uploads/|[<>]|\[Errno")
_OURS: Final = re.compile(
    r"(uploads|jobs|avatars)(/[0-9a-f]{32}(/.*)?)?|jobs\.sqlite3(-wal|-shm)?|service\.(lock|log(\.1)?)"
    r"|labels(/TEST-not-trusted\.pem)?|voices(/[0-9a-f]{32}){0,2}"
)


@dataclass(frozen=True)
class Case:
    id: str
    role: Role
    expect: Expect
    file: Path | None  # None for text
    name: bytes  # of the uploaded file, or the text
    mouth: Mouth = "any"  # what it has to do in the result


@dataclass(frozen=True)
class Outcome:
    case: Case
    found: str
    detail: str
    seconds: float
    wrong: str


class Wrong(Exception):
    """The service answered in a way that no input may bring about."""


def load_manifest(folder: Path) -> list[Case]:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert not manifest["skipped"], f"the corpus is not whole: {manifest['skipped']}"
    cases = []
    for entry in manifest["entries"]:
        name = entry.get("file") or entry.get("content")
        text = entry.get("value", entry.get("file", "")).encode("utf-8", "surrogatepass")
        mouth = _mouth_of(entry) if entry["role"] == "audio" else "any"
        cases.append(Case(entry["id"], entry["role"], entry["expect"], folder / name if name else None, text, mouth))
    return cases


def _mouth_of(entry: dict[str, Any]) -> Mouth:
    if entry["id"].startswith(("silence", "noise")):
        return "rests"
    return "moves" if entry["expect"] == "accept" or entry["id"] == "antiphase.wav" else "any"


def make_corpus(maker: Path, folder: Path, port: int) -> list[Case]:
    """Runs make_hostile.py; `port` is the canary's. The command ffmpeg only writes files."""
    tools = folder / "tools"
    tools.mkdir(parents=True)
    (tools / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    command = [sys.executable, str(maker), str(folder / "corpus"), "--port", str(port)]
    env = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(command, env=env, check=True, timeout=300, stdout=subprocess.DEVNULL)
    return load_manifest(folder / "corpus")


class Sender:
    def __init__(self, client: httpx.Client, audio: Path, video: Path, folder: Path) -> None:
        self._client, self._audio, self._video, self._folder = client, audio, video, folder
        self._audio_seconds, self._avatar_id = 0.0, b""
        self._boundaries = itertools.count()

    def prepare(self) -> None:
        accepted = self._post(_file("video", self._video), _file("audio", self._audio))
        assert accepted.status_code == 202, accepted.text
        job = self._follow(accepted.json()["id"])
        assert job["status"] == "succeeded", job
        self._audio_seconds = job["report"]["output"]["audio_seconds"]
        avatar = self._post(_file("video", self._video), path="/v1/avatars").json()
        self._avatar_id = avatar["id"].encode()

    def send(self, case: Case) -> list[Outcome]:
        return [self._judge(case, where, parts) for where, parts in self._forms(case)]

    def _forms(self, case: Case) -> Iterator[tuple[str, list[bytes]]]:
        audio, avatar = _file("audio", self._audio), _part("avatar_id", self._avatar_id)
        if case.role == "path":
            yield "video", [_part("video", case.name), audio]
            yield "video_url", [_part("video_url", case.name), audio]
            yield "audio", [avatar, _part("audio", case.name)]
            yield "audio_url", [avatar, _part("audio_url", case.name)]
            return
        assert case.file is not None
        if case.role == "audio":
            yield "", [avatar, _file("audio", case.file, case.name)]
        else:
            yield "", [_file("video", case.file, case.name), audio]

    def _judge(self, case: Case, where: str, parts: Sequence[bytes]) -> Outcome:
        start = time.monotonic()
        try:
            found, detail = self._try(case, parts)
            wrong = "" if case.expect in (found, "either") else f"expected {case.expect}"
        except Wrong as error:
            found, detail, wrong = "broken", str(error), "broken"
        except httpx.HTTPError as error:
            found, detail, wrong = "broken", f"{type(error).__name__}: {error}", "no answer"
        seconds = time.monotonic() - start
        if found == "reject" and seconds > CASE_S:
            wrong = wrong or f"refused after more than {CASE_S:.0f} s"
        if not wrong and self._client.get("/healthz", timeout=60).status_code != 200:
            wrong = "the service is not healthy afterwards"
        return Outcome(case, f"{where} {found}".strip(), detail, seconds, wrong)

    def _try(self, case: Case, parts: Sequence[bytes]) -> tuple[str, str]:
        response = self._post(*parts)
        if response.status_code != 202:
            return "reject", _refusal(response)
        job = self._follow(response.json()["id"])
        if job["status"] == "failed":
            return "reject", _checked_error(job["error"]["code"], job["error"]["message"])
        if job["status"] != "succeeded":
            raise Wrong(f"the job is {job['status']} at {job['progress']:.2f}: {job['error']}")
        return "accept", self._check_video(case, job)

    def _check_video(self, case: Case, job: dict[str, Any]) -> str:
        output = job["report"]["output"]
        if case.role != "audio" and output["audio_seconds"] != self._audio_seconds:
            raise Wrong(f"the sound has {output['audio_seconds']} s, expected {self._audio_seconds}")
        _check_mouth(case, job["report"]["mouth"])
        path = self._folder / f"{job['id']}.mp4"
        path.write_bytes(self._client.get(job["links"]["video"]).raise_for_status().content)
        try:
            source = case.file if case.role == "video" else None
            return check_result(path, source, output["audio_seconds"])
        except AssertionError as error:
            raise Wrong(str(error)) from error
        finally:
            path.unlink()

    def _follow(self, job_id: str) -> dict[str, Any]:
        """The job once it is final, or once it stands still."""
        start = moved = time.monotonic()
        seen: tuple[Any, ...] = ()
        while True:
            job: dict[str, Any] = self._client.get(f"/v1/jobs/{job_id}").raise_for_status().json()
            now = time.monotonic()
            state = tuple(job[name] for name in ("stage", "progress", "num_frames_done", "queue_position"))
            if state != seen:
                seen, moved = state, now
            if job["status"] in FINAL or now - moved > CASE_S or now - start > _LONGEST_S:
                return job
            time.sleep(0.1)

    def _post(self, *parts: bytes, path: str = "/v1/jobs") -> httpx.Response:
        boundary = b"hostile-%d" % next(self._boundaries)
        body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"}
        deadline = time.monotonic() + CASE_S
        while True:
            response = self._client.post(path, content=body, headers=headers)
            # 504: the machine was too busy to tell whether the file or it is slow.
            if response.status_code not in (429, 504) or time.monotonic() > deadline:
                return response
            time.sleep(min(float(response.headers.get("Retry-After", 1.0)), 1.0))


def foreign_files(data_dir: Path) -> list[str]:
    """Files of a data folder that do not lie where the service keeps its own, under names that are its own."""
    names = (path.relative_to(data_dir).as_posix() for path in data_dir.rglob("*"))
    return [name for name in names if not _OURS.fullmatch(name)]


def input_codes() -> set[str]:
    kinds = [errors.InputError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return {kind.code for kind in kinds}


def _check_mouth(case: Case, mouth: dict[str, Any]) -> None:
    moving = max(mouth["opening_std_speech"] or 0.0, mouth["opening_std_silence"] or 0.0)
    if case.mouth == "moves" and moving < _MOVING or case.mouth == "rests" and moving > _RESTING:
        raise Wrong(f"the mouth's opening varies by {moving:.3f}; it is one that {case.mouth}")


def _refusal(response: httpx.Response) -> str:
    if not 400 <= response.status_code < 500 or response.headers["Content-Type"] != "application/problem+json":
        raise Wrong(f"answer {response.status_code} {response.text[:300]}")
    problem = response.json()
    return _checked_error(problem["code"], problem["detail"])


def _checked_error(code: str, message: str) -> str:
    if code not in input_codes():
        raise Wrong(f"{code}: {message}")
    if not message or len(message) > 1000 or _LEAKS.search(message):
        raise Wrong(f"a message that must not be shown: {message[:300]!r}")
    return f"{code}: {message}"


def _part(name: str, text: bytes) -> bytes:
    return b'Content-Disposition: form-data; name="%s"\r\n\r\n%s' % (name.encode(), text)


def _file(name: str, path: Path, file_name: bytes | None = None) -> bytes:
    label = path.name.encode() if file_name is None else file_name
    head = b'Content-Disposition: form-data; name="%s"; filename="%s"\r\n' % (name.encode(), label)
    return head + b"Content-Type: application/octet-stream\r\n\r\n" + path.read_bytes()


_AAC_FRAME: Final = 1024
_BLOCK: Final = 8
_MAX_DIFFERENCE: Final = 6.0
"""Mean difference of the upper third's block means, levels of 255: a wrong range makes 10, another turn 40."""


def check_result(result: Path, source: Path | None, audio_seconds: float) -> str:
    """Checks one result, against its source's first frame if a source is given; returns its facts for a table.

    Raises:
        AssertionError: It is not what it has to be; says how.
    """
    with av.open(str(result)) as container:
        rate = container.streams.video[0].average_rate
        frames = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]
    assert rate is not None and frames, "the result holds no frame"
    num_expected = max(math.ceil(Fraction(audio_seconds) * rate - Fraction(1, 1000)), 1)
    assert len(frames) == num_expected, f"{len(frames)} frames at {rate}, expected {num_expected} for {audio_seconds} s"
    with av.open(str(result)) as container:
        heard, sample_rate = 0.0, 0
        for block in container.decode(audio=0):
            heard, sample_rate = heard + block.samples / block.sample_rate, block.sample_rate
    slack = float(1 / rate) + _AAC_FRAME / max(sample_rate, 1)
    assert abs(heard - audio_seconds) <= slack, f"{heard:.3f} s of sound, expected {audio_seconds:.3f}"
    if source is not None:
        _check_picture(frames[0], _first_frame(source))
    return f"{len(frames)} frames at {rate}, {frames[0].shape[1]} x {frames[0].shape[0]}"


def _first_frame(source: Path) -> NDArray[np.uint8]:
    with av.open(str(source)) as container:
        frame: Any = next(container.decode(video=0))
        return np.asarray(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90), np.uint8)


def _check_picture(shown: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    expected = expected[: expected.shape[0] // 2 * 2, : expected.shape[1] // 2 * 2]
    assert shown.shape == expected.shape, f"a picture of {shown.shape[1::-1]}, expected {expected.shape[1::-1]}"
    difference = float(np.abs(_block_means(shown) - _block_means(expected)).mean())
    assert difference < _MAX_DIFFERENCE, f"the upper third differs by {difference:.1f} levels from the source's"


def _block_means(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(H, W, 3) -> means of the blocks of the upper third, where no mouth is and no grain or dither counts."""
    height, width = (side // _BLOCK for side in (picture.shape[0] // 3, picture.shape[1]))
    blocks = picture[: height * _BLOCK, : width * _BLOCK].reshape(height, _BLOCK, width, _BLOCK, 3)
    return np.asarray(blocks.mean((1, 3)), np.float64)
