"""The tools for models, called by the SDK's own client."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from integrations.mcp_server import LipwrightTools
from integrations.shared_folder import SharedFolder
from lipwright.errors import FaceNotFoundError
from lipwright.jobs.messages import PeopleScan
from lipwright_client import AsyncLipwright, Lipwright
from models.people.report import PeopleReport
from tests.unit.api_server import VIDEO_BYTES, MemoryService


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "a.wav").write_bytes(b"sound")
    (folder / "v.mp4").write_bytes(b"film")
    (tmp_path / "secret.wav").write_bytes(b"secret")
    (folder / "link.wav").symlink_to(tmp_path / "secret.wav")
    return folder


def _call(url: str, folder: Path, *calls: tuple[str, dict[str, Any]], **options: Any) -> list[Any]:
    """The results of tool calls, one after the other, in memory."""

    async def use() -> list[Any]:
        async with (
            AsyncLipwright(url) as lipwright,
            Client(LipwrightTools(lipwright, SharedFolder(folder)).server()) as client,
        ):
            return [await client.call_tool(name, arguments, **options) for name, arguments in calls]

    return asyncio.run(use())


def test_speak_over_stdio_saves_the_video(service: MemoryService, url: str, folder: Path, repo_root: Path) -> None:
    service.outcome = "video"
    updates: list[tuple[float, float | None, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        updates.append((progress, total, message))

    async def use() -> tuple[list[str], Any]:
        command = ["-m", "lipwright.cli", "mcp", "--server", url, "--folder", str(folder)]
        server = StdioServerParameters(command=sys.executable, args=command, cwd=repo_root)
        async with Client(stdio_client(server)) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            arguments = {"audio": "a.wav", "video": "v.mp4", "out": "result.mp4"}
            return tools, await client.call_tool("speak", arguments, progress_callback=hear)

    tools, result = asyncio.run(use())
    assert tools == ["speak", "dub", "job_status", "save_video", "cancel_job", "list_avatars", "list_engines"]
    assert not result.is_error, result.content
    said = result.structured_content
    assert (said["status"], said["num_frames"], said["path"]) == ("succeeded", 50, str(folder / "result.mp4"))
    assert said["uri"] == (folder / "result.mp4").as_uri()
    assert (folder / "result.mp4").read_bytes() == VIDEO_BYTES
    assert updates[-1] == (1.0, 1.0, "done, frame 50 of 50")


def test_speak_without_wait_then_status_and_save(service: MemoryService, url: str, folder: Path) -> None:
    (started,) = _call(url, folder, ("speak", {"audio": "a.wav", "video": "v.mp4", "wait": False}))
    job_id = started.structured_content["job_id"]
    early, looked = _call(url, folder, ("save_video", {"job_id": job_id}), ("job_status", {"job_id": job_id}))
    assert early.is_error and "state_conflict" in early.content[0].text
    assert looked.structured_content["status"] == "queued"
    service.finish(job_id)
    (saved,) = _call(url, folder, ("save_video", {"job_id": job_id}))
    assert Path(saved.structured_content["path"]).read_bytes() == VIDEO_BYTES
    assert Path(saved.structured_content["path"]).parent == folder
    (other,) = _call(url, folder, ("speak", {"audio": "a.wav", "video": "v.mp4", "wait": False}))
    (stopped,) = _call(url, folder, ("cancel_job", {"job_id": other.structured_content["job_id"]}))
    assert stopped.structured_content["status"] == "cancelled"


def test_speak_errors_are_tool_errors(service: MemoryService, url: str, folder: Path) -> None:
    (refused,) = _call(url, folder, ("speak", {"text": "Hello.", "audio": "a.wav", "video": "v.mp4"}))
    assert refused.is_error and "option_invalid" in refused.content[0].text
    assert "text" in refused.content[0].text
    service.outcome = FaceNotFoundError("v.mp4: expected a face, found none.")
    (failed,) = _call(url, folder, ("speak", {"audio": "a.wav", "video": "v.mp4"}))
    assert failed.is_error
    assert "face_not_found: v.mp4: expected a face, found none." in failed.content[0].text


def test_speak_sends_background_crop_and_format(service: MemoryService, url: str, folder: Path) -> None:
    service.outcome = "video"
    arguments = {"audio": "a.wav", "video": "v.mp4"}
    clear = {**arguments, "background": "transparent", "crop": "9:16", "format": "webm", "quality": "best"}
    of_files: list[dict[str, Any]] = [{"background_file": "v.mp4", "wait": False}, {"background_file": "../secret.wav"}]
    calls = [clear, {**clear, "out": "result.mp4"}, *({**arguments, **each} for each in of_files)]
    done, unfit, behind, outside = _call(url, folder, *(("speak", each) for each in calls))
    assert not done.is_error, done.content
    saved = Path(done.structured_content["path"])
    assert (saved.suffix, saved.read_bytes()) == (".webm", VIDEO_BYTES)
    options = service.requests[0].options
    assert (options.background, options.crop, options.format) == ("transparent", "9:16", "webm")
    assert options.quality == "best"
    assert unfit.is_error and "out: result.mp4 must end in .webm." in unfit.content[0].text
    assert not behind.is_error, behind.content
    assert service.requests[-1].background_file is not None
    assert outside.is_error and "background_file: ../secret.wav is outside" in outside.content[0].text
    late = ("save_video", {"job_id": done.structured_content["job_id"], "out": "late.webm"})
    (saved_again,) = _call(url, folder, late)
    assert not saved_again.is_error and (folder / "late.webm").read_bytes() == VIDEO_BYTES


def test_speak_sends_turns_with_files_and_texts(service: MemoryService, url: str, folder: Path) -> None:
    (folder / "bob.wav").write_bytes(b"sound of Bob")
    turns = [
        {"face": "0", "start": 0},
        {"face": "1", "start": 1, "end": 2, "audio": "bob.wav", "audio_start": 0.5},
        {"face": "0", "start": 3, "text": "Bye.", "voice": "nova"},
        {"face": "1", "start": 4, "audio": "bob.wav"},
    ]
    arguments = {"video": "v.mp4", "audio": "a.wav", "wait": False}
    wrong = ([{"start": 0, "audio": "../secret.wav"}], [{"start": 0, "begin": 0}])
    calls = [("speak", {**arguments, "turns": each}) for each in (turns, *wrong)]
    done, outside, unknown = _call(url, folder, *calls)
    assert not done.is_error, done.content
    (request,) = service.requests
    spoken = [(turn.face, turn.start, turn.audio, turn.audio_start) for turn in request.options.turns or ()]
    assert spoken[:2] == [("0", 0, "audio", 0), ("1", 1, "audio_1", 0.5)]
    text, late = (request.options.turns or ())[2:]
    assert (text.text, text.voice, late.audio) == ("Bye.", "nova", "audio_1")
    assert request.more_audio["audio_1"].label == "bob.wav"
    assert outside.is_error and "turns[0].audio: ../secret.wav is outside" in outside.content[0].text
    assert unknown.is_error and "begin" in unknown.content[0].text


def test_diarization_and_subtitles_are_sent(service: MemoryService, url: str, folder: Path) -> None:
    (folder / "a.rttm").write_text("SPEAKER a 1 0.5 1.5 <NA> <NA> Anna <NA> <NA>\n", encoding="utf-8")
    (folder / "de.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\n<v Anna>Hallo\n", encoding="utf-8")
    service.scans = [PeopleScan(1, PeopleReport(people=(), turns=()))]
    service.outcome = "video"
    speech = {"video": "v.mp4", "audio": "a.wav", "diarization": "a.rttm", "speakers": {"Anna": {"face": "1"}}}
    texts = {"video": "v.mp4", "subtitles": "de.vtt", "speakers": {"Anna": {"voice": "nova"}}, "out": "dub.mp4"}
    secret = [("speak", {**speech, "diarization": "../secret.wav"}), ("dub", {**texts, "subtitles": "../secret.wav"})]
    spoken, dubbed, *outside = _call(url, folder, ("speak", speech), ("dub", texts), *secret)
    assert not spoken.is_error and not dubbed.is_error, (spoken.content, dubbed.content)
    (turn,), (text,) = (request.options.turns or () for request in service.requests)
    assert (turn.face, turn.start, turn.end) == ("1", 0.5, 2.0)
    assert (text.face, text.voice, text.text) == (None, "nova", "Hallo")
    assert (folder / "dub.mp4").read_bytes() == VIDEO_BYTES
    spec = service.requests[1].spec
    assert {"background", "expressiveness", "motion"} <= spec.model_fields_set, "v.mp4 may be a saved avatar"
    assert (spec.background, spec.expressiveness, spec.motion) == ("source", 1, 1)
    for name, refused in zip(("diarization", "subtitles"), outside, strict=True):
        assert refused.is_error and f"{name}: ../secret.wav is outside" in refused.content[0].text


def test_paths_outside_are_refused(service: MemoryService, url: str, folder: Path) -> None:
    before = [path for path in sorted(folder.parent.rglob("*.*")) if "service" not in path.parts]
    audio = ({"audio": name} for name in ("../secret.wav", "link.wav", "missing.wav"))
    out = ({"audio": "a.wav", "out": name} for name in ("../out.mp4", "v.mp4", "out.py"))
    for refused in _call(url, folder, *(("speak", {"video": "v.mp4", **paths}) for paths in (*audio, *out))):
        assert refused.is_error and ("audio:" in refused.content[0].text or "out:" in refused.content[0].text)
    assert not service.requests
    assert [path for path in sorted(folder.parent.rglob("*.*")) if "service" not in path.parts] == before


def test_list_avatars_and_engines(url: str, folder: Path) -> None:
    avatar_id = Lipwright(url).avatars.create(video=("anna.mp4", b"film")).id
    avatars, engines = _call(url, folder, ("list_avatars", {}), ("list_engines", {}))
    assert avatars.structured_content["result"] == [{"avatar_id": avatar_id, "name": "anna.mp4", "status": "analysing"}]
    assert "warp" in [each["name"] for each in engines.structured_content["result"] if each["is_default"]]
