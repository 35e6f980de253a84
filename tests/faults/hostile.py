"""Sends hostile inputs to a running service and says what became of each."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import httpx

from lipwright import errors
from tests.faults.pictures import check_result

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
    """One hostile input.

    Attributes:
        id: Its name.
        role: Where it goes: the file of a field, the name of an uploaded file, or text in place of a file.
        expect: What has to become of it; `either` is a clean answer of both kinds.
        file: What is uploaded; None for text.
        name: Name that the upload carries, as bytes of the header; the text for the role `path`.
        mouth: What the mouth has to do in the result.
    """

    id: str
    role: Role
    expect: Expect
    file: Path | None
    name: bytes
    mouth: Mouth = "any"


@dataclass(frozen=True)
class Outcome:
    """What became of a case; `wrong` is empty when that is what was expected."""

    case: Case
    found: str
    detail: str
    seconds: float
    wrong: str


class Wrong(Exception):
    """The service answered in a way that no input may bring about."""


def load_manifest(folder: Path) -> list[Case]:
    """The cases of a corpus that make_hostile.py wrote."""
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


def make_corpus(maker: Path, ffmpeg: str, folder: Path, port: int) -> list[Case]:
    """Runs make_hostile.py; `port` is the canary's. `ffmpeg` only writes files."""
    tools = folder / "tools"
    tools.mkdir(parents=True)
    (tools / "ffmpeg").symlink_to(ffmpeg)
    command = [sys.executable, str(maker), str(folder / "corpus"), "--port", str(port)]
    env = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(command, env=env, check=True, timeout=300, stdout=subprocess.DEVNULL)
    return load_manifest(folder / "corpus")


class Sender:
    """Sends cases to a service, several at a time from several threads.

    Args:
        client: Of the service.
        audio: Speech of about a second.
        video: A face.
        folder: Where results are put to be looked at.
    """

    def __init__(self, client: httpx.Client, audio: Path, video: Path, folder: Path) -> None:
        self._client, self._audio, self._video, self._folder = client, audio, video, folder
        self._audio_seconds, self._avatar_id = 0.0, b""
        self._boundaries = itertools.count()

    def prepare(self) -> None:
        """Shows that the good inputs work and has the good face analysed once."""
        accepted = self._post(_file("video", self._video), _file("audio", self._audio))
        assert accepted.status_code == 202, accepted.text
        job = self._follow(accepted.json()["id"])
        assert job["status"] == "succeeded", job
        self._audio_seconds = job["report"]["output"]["audio_seconds"]
        avatar = self._post(_file("video", self._video), path="/v1/avatars").json()
        self._avatar_id = avatar["id"].encode()

    def send(self, case: Case) -> list[Outcome]:
        """Every way in which a case is sent, and what became of it."""
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
    """Codes of the errors that say: it is your input."""
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
