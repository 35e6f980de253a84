"""How clients of HeyGem and Duix are known to ask, from submission to result, and which files they can name."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest

from lipwright.api.heygem.data_root import DataRoot, _open_beneath
from lipwright.config import HeygemConfig, NetworkConfig
from lipwright.errors import FaceNotFoundError, InputError, UrlRefusedError
from lipwright.jobs.model.record import JobStage, JobStatus
from lipwright.storage.file_keys import job_file_key
from tests.unit.api.edge_client import AUDIO, VIDEO
from tests.unit.api_server import VIDEO_BYTES, MemoryService, api_client
from tests.unit.on_disk import on_disk

KEYS = {"code", "data", "msg", "success"}
CODE = "6d9c1b4e-3f0a-4f57-9d1e-0f2a7d3b8c55"


def body_of(**fields: Any) -> bytes:
    """A submission as JSON."""
    return json.dumps({"audio_url": "talk.wav", "video_url": "face.mp4", "code": CODE, **fields}).encode()


class HeygemClient:
    """Calls `/easy/*`, and checks what every answer has in common."""

    def __init__(self, http: httpx.Client, service: MemoryService, root: Path) -> None:
        self.http = http
        self.service = service
        self.root = root

    def submit(self, code: str = "task-1", **fields: Any) -> dict[str, Any]:
        return self.answer(self.http.post("/easy/submit", content=body_of(code=code, **fields)))

    def query(self, code: str = "task-1") -> dict[str, Any]:
        return self.answer(self.http.get("/easy/query", params={"code": code}))

    def task(self, code: str = "task-1") -> dict[str, Any]:
        """The `data` of an answer that knows the task."""
        answer = self.query(code)
        assert (answer["code"], answer["msg"], answer["success"]) == (10000, "", True), answer
        data: dict[str, Any] = answer["data"]
        assert data.keys() >= {"code", "status", "progress", "result", "msg"}
        assert data["code"] == code and type(data["status"]) is type(data["progress"]) is int
        return data

    def job_id(self, number: int = -1) -> str:
        return self.service.requests[number].job_id

    @staticmethod
    def answer(response: httpx.Response) -> dict[str, Any]:
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        assert answer.keys() == KEYS
        assert type(answer["code"]) is int and type(answer["success"]) is bool and isinstance(answer["data"], dict)
        return answer


@contextmanager
def heygem_service(
    tmp_path: Path, network: NetworkConfig | None = None, has_root: bool = True, **settings: Any
) -> Iterator[HeygemClient]:
    """Serve with `heygem` settings; `talk.wav` and `face.mp4` lie in the root's `temp`."""
    root = tmp_path / "root"
    (root / "temp").mkdir(parents=True)
    (root / "temp" / "talk.wav").write_bytes(AUDIO)
    (root / "temp" / "face.mp4").write_bytes(VIDEO)
    service = MemoryService(tmp_path / "data")
    heygem = HeygemConfig(enabled=True, root=root if has_root else None, **settings)
    with api_client(service, network, heygem=heygem) as http:
        yield HeygemClient(http, service, root)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[HeygemClient]:
    with heygem_service(tmp_path) as client:
        yield client


class Habit(NamedTuple):
    """One client's submission: the body as it leaves the client, and head lines beside those of HTTP itself."""

    body: bytes
    headers: tuple[str, ...] = ("Content-Type: application/json",)
    is_chunked: bool = False


_FIXED = {"chaofen": 0, "watermark_switch": 0, "pn": 1}
_SIGNED = {"audio_url": "../audio_tmp/talk.wav", "video_url": "../characters/face.mp4", "sign": "3f2a"}
HABITS = {
    "desktop client, axios": Habit(
        body_of(**_FIXED),
        ("Accept: application/json, text/plain, */*", "Content-Type: application/json", "User-Agent: axios/1.7.9"),
    ),
    "Go, a body of unknown length": Habit(
        body_of(**_FIXED), ("User-Agent: Go-http-client/1.1", "Accept-Encoding: gzip"), is_chunked=True
    ),
    "Python, requests.post(data=json.dumps(...))": Habit(body_of(**_FIXED), ("User-Agent: python-requests/2.32.3",)),
    "a JSON string as text": Habit(body_of(**_FIXED), ("Content-Type: text/plain;charset=UTF-8",)),
    "curl -d": Habit(body_of(), ("User-Agent: curl/8.5.0", "Content-Type: application/x-www-form-urlencoded")),
    "C#, with a byte order mark": Habit(b"\xef\xbb\xbf" + body_of(**_FIXED)),
    "a proxy that signs and names files from its own folder": Habit(body_of(**_SIGNED, **_FIXED)),
    "switches as text, fields left empty": Habit(body_of(chaofen="0", watermark_switch="", pn="1", digital_auth=None)),
}


@pytest.mark.parametrize("habit", HABITS.values(), ids=HABITS)
def test_a_task_from_submission_to_result(client: HeygemClient, habit: Habit) -> None:
    for folder, name in (("audio_tmp", "talk.wav"), ("characters", "face.mp4")):
        (client.root / folder).mkdir()
        (client.root / folder / name).write_bytes((client.root / "temp" / name).read_bytes())
    accepted = _send(str(client.http.base_url), habit)
    assert accepted == {"code": 10000, "data": {}, "msg": 10000, "success": True}
    assert type(accepted["msg"]) is int
    (request,) = client.service.requests
    assert on_disk(client.service.files, job_file_key(request.job_id)).read_bytes() == AUDIO
    assert request.options.loop == "pingpong"
    assert client.task(CODE)["status"] == 1
    client.service.finish(request.job_id)
    done = client.task(CODE)
    assert (done["status"], done["progress"], done["msg"]) == (2, 100, "任务完成")
    # Clients join the result with the folder's name, with or without a separator, or ask for it by an address.
    assert Path(f"{client.root}/temp" + done["result"]).read_bytes() == VIDEO_BYTES
    assert (client.root / "temp" / done["result"].lstrip("/")).read_bytes() == VIDEO_BYTES
    for link in (f"/easy/download?code={CODE}", "/easy/download" + done["result"]):
        assert client.http.get(link).content == VIDEO_BYTES
    part = client.http.get(f"/easy/download?code={CODE}", headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, VIDEO_BYTES[10:20])
    assert client.task(CODE) == done, "a final answer is kept"


def test_polling_every_second_sees_it_move(client: HeygemClient) -> None:
    client.submit(CODE)
    table, job_id, seen = client.service.table, client.job_id(), []

    def poll() -> None:
        task = client.task(CODE)
        assert (task["status"], task["result"]) == (1, "")
        seen.append((task["progress"], task["msg"]))

    poll()
    table.update_job(job_id, status=JobStatus.RUNNING, stage=JobStage.PREPARING_AUDIO)
    poll()
    table.update_job(job_id, stage=JobStage.ANALYSING, progress=0.2)
    poll()
    for num_frames_done in (0, 25, 50, 75, 100):
        table.update_job(job_id, stage=JobStage.RENDERING, num_frames=100, num_frames_done=num_frames_done)
        poll()
    table.update_job(job_id, stage=JobStage.MUXING)
    poll()
    assert seen == [
        (10, "文件下载完成"),
        (10, "文件下载完成"),
        (18, "文件下载完成"),
        *((progress, "音频特征提取完成") for progress in (20, 37, 55, 72, 90)),
        (90, "视频处理完成"),
    ]


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (JobStage.PREPARING_AUDIO, "[task-1]音频特征提取失败，异常信息:[v.mp4: no face]"),
        (JobStage.ANALYSING, "[task-1]预处理失败，异常信息:[v.mp4: no face]"),
        (JobStage.RENDERING, "**生成视频失败"),
    ],
)
def test_a_failure_is_told_as_the_client_knows_it(client: HeygemClient, stage: JobStage, words: str) -> None:
    client.submit()
    client.service.table.update_job(client.job_id(), status=JobStatus.RUNNING, stage=stage, progress=0.3)
    client.service.fail(client.job_id(), FaceNotFoundError("v.mp4: no face"))
    task = client.task()
    assert (task["status"], task["progress"], task["result"]) == (3, 0, "")
    assert words in task["msg"] and "v.mp4: no face" in task["msg"]


def test_a_client_that_polls_until_the_task_is_unknown_ends(client: HeygemClient) -> None:
    client.submit()
    client.service.fail(client.job_id(), FaceNotFoundError("v.mp4: no face"))
    seen = []
    while (answer := client.query())["code"] != 10004:
        seen.append(answer["data"]["status"])
    assert seen == [3], "a failure is reported once"
    assert answer == {"code": 10004, "data": {}, "msg": "任务不存在", "success": True}
    text = client.http.get("/easy/query?code=nobody").text
    assert text.index('    "code"') < text.index('"data"') < text.index('"msg": "任务不存在"'), "sorted, readable"
    assert client.submit()["code"] == 10000, "the code is free again"
    assert client.task()["status"] == 1


def _send(base_url: str, habit: Habit) -> dict[str, Any]:
    """The submission over a socket, with the head as it stands."""
    address = urlsplit(base_url)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (habit.body[:20], habit.body[20:]))
    length = "Transfer-Encoding: chunked" if habit.is_chunked else f"Content-Length: {len(habit.body)}"
    lines = ("POST /easy/submit HTTP/1.1", f"Host: {address.netloc}", "Connection: close", *habit.headers, length)
    with socket.create_connection((address.hostname, address.port), timeout=60) as line:
        line.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        line.sendall(chunks + b"0\r\n\r\n" if habit.is_chunked else habit.body)
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    found: dict[str, Any] = json.loads(body)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("temp/a.wav", "temp/deep/b.wav", "characters/c.mp4", "a file.wav"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "root-2").mkdir()
    (tmp_path / "root-2" / "temp").write_bytes(b"secret")
    return root


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.wav", "temp/a.wav"),
        ("./deep/../a.wav", "temp/a.wav"),
        ("deep/b.wav", "temp/deep/b.wav"),
        ("../characters/c.mp4", "characters/c.mp4"),
        ("/code/data/temp/a.wav", "temp/a.wav"),
        ("/code/data/a file.wav", "a file.wav"),
        ("{root}/characters/c.mp4", "characters/c.mp4"),
        ("inside.wav", "characters/c.mp4"),
        ("linked/c.mp4", "characters/c.mp4"),
    ],
)
def test_names_of_clients(folder: Path, name: str, found: str) -> None:
    (folder / "temp" / "inside.wav").symlink_to(folder / "characters" / "c.mp4")
    (folder / "temp" / "linked").symlink_to(folder / "characters")
    with DataRoot(folder).open(name.replace("{root}", str(folder))) as file:
        assert file.read() == found.encode()


@pytest.mark.parametrize(
    "name",
    [
        *("../../secret", "../../nothing", "/etc/passwd", "/code/data/../../secret", "/code/database/x"),
        *("{root}/../secret", "{root}-2/temp", "outside.wav", "upwards/secret", "deep/../../../secret"),
    ],
)
def test_ways_out(folder: Path, name: str) -> None:
    (folder / "temp" / "outside.wav").symlink_to(folder.parent / "secret")
    (folder / "temp" / "upwards").symlink_to("../..")
    with pytest.raises(UrlRefusedError, match="not in the data root"):
        DataRoot(folder).open(name.replace("{root}", str(folder)))


@pytest.mark.parametrize("name", ["missing.wav", "deep", ".", "..", "a.wav/x", "pipe", "a\0b", "x" * 4000])
def test_what_is_no_file(folder: Path, name: str) -> None:
    os.mkfifo(folder / "temp" / "pipe")
    with pytest.raises(InputError):
        DataRoot(folder).open(name)


def test_a_root_that_is_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    for name in ("a.wav", "/code/data/temp/a.wav", f"{tmp_path}/link/temp/a.wav", f"{folder}/temp/a.wav"):
        DataRoot(tmp_path / "link").open(name).close()


def test_results_are_copied_once_and_anew_when_they_change(folder: Path, tmp_path: Path) -> None:
    root, result = DataRoot(folder), tmp_path / "result.mp4"
    result.write_bytes(b"one")
    os.utime(result, (1, 1))
    target = root.keep_result("task", result)
    assert (target, target.read_bytes()) == (folder / "temp" / "task-r.mp4", b"one")
    inode = target.stat().st_ino
    assert root.keep_result("task", result).stat().st_ino == inode
    result.write_bytes(b"two")
    assert root.keep_result("task", result).read_bytes() == b"two"
    assert not list((folder / "temp").glob(".*.part"))
    target.unlink()
    target.symlink_to(tmp_path / "secret")
    assert root.keep_result("task", result).read_bytes() == b"two"
    assert (tmp_path / "secret").read_bytes() == b"secret", "a link is replaced, not followed"


def test_a_way_that_changes_meanwhile_leads_nowhere(folder: Path) -> None:
    (folder / "temp" / "linked").symlink_to(folder / "characters")
    (folder / "temp" / "inside.wav").symlink_to(folder / "characters" / "c.mp4")
    for parts in (("temp", "linked", "c.mp4"), ("temp", "inside.wav")):
        with pytest.raises(OSError, match="linked|inside"):
            _open_beneath(folder, parts)
    os.close(_open_beneath(folder, ("temp", "a.wav")))


def test_keep_result_into_linked_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "data" / "temp").symlink_to(tmp_path / "outside")
    result = tmp_path / "result.mp4"
    result.write_bytes(b"video")
    with pytest.raises(UrlRefusedError, match="temp"):
        DataRoot(tmp_path / "data").keep_result("task", result)
    assert not any((tmp_path / "outside").iterdir())
