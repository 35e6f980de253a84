"""What a program does with the client, against the real API on a real socket."""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import threading
import tomllib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import errors as service_errors
import lipwright_client as package
from config import JobConfig
from errors import FaceNotFoundError, LipwrightError
from jobs.model.record import JobStatus
from lipwright_client import AsyncLipwright, Job, Lipwright, Problem, ProblemError, RetryPolicy
from lipwright_client.errors import problem_error
from storage.file_keys import job_file_key, upload_key
from storage.local.api_keys import FileKeyRing
from tests.ports import quiet_port
from tests.unit.api_server import VIDEO_BYTES, MemoryService, serving
from tests.unit.on_disk import on_disk
from tests.unit.quality_report import example_report
from tests.unit.speech.speech_server import tone


def test_speak_returns_the_job_and_writes_the_video(client: Lipwright, service: MemoryService, tmp_path: Path) -> None:
    service.outcome, service.report = "video", example_report()
    (tmp_path / "anna.mp4").write_bytes(b"film")
    seen: list[Job] = []
    job = client.speak(
        video=tmp_path / "anna.mp4",
        audio=b"sound",
        loop="hold",
        metadata={"order": "17"},
        out=tmp_path / "out.mp4",
        on_change=seen.append,
    )
    assert (tmp_path / "out.mp4").read_bytes() == VIDEO_BYTES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["anna.mp4", "out.mp4", "service"]
    assert (job.status, job.num_frames, job.progress, job.is_final) == ("succeeded", 50, 1.0, True)
    assert (job.inputs.source, job.metadata, job.options["loop"]) == ("anna.mp4", {"order": "17"}, "hold")
    assert job.created_at.tzinfo is not None and seen[-1] == job
    assert job.report is not None and job.report["warnings"] == service.report["warnings"]


def _pipe() -> io.BufferedReader:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        file.write(b"sound")
    return os.fdopen(reading, "rb")


@pytest.mark.parametrize(
    ("give", "name"),
    [
        (lambda folder: folder / "a.wav", "a.wav"),
        (lambda folder: str(folder / "a.wav"), "a.wav"),
        (lambda folder: b"sound", "audio"),
        (lambda folder: bytearray(b"sound"), "audio"),
        (lambda folder: ("named.wav", b"sound"), "named.wav"),
        (lambda folder: io.BytesIO(b"sound"), "audio"),
        (lambda folder: (folder / "a.wav").open("rb"), "a.wav"),
        (lambda folder: ("piped.wav", _pipe()), "piped.wav"),
        (lambda folder: "data:audio/wav;base64,c291bmQ=", None),
    ],
)
def test_create_accepts_paths_bytes_files_and_data_urls(
    client: Lipwright, service: MemoryService, tmp_path: Path, give: Callable[[Path], Any], name: str | None
) -> None:
    (tmp_path / "a.wav").write_bytes(b"sound")
    job = client.jobs.create(audio=give(tmp_path), video=("v.mp4", b"film"))
    assert on_disk(service.files, job_file_key(job.id)).read_bytes() == b"sound"
    assert name is None or job.inputs.audio == name


def test_create_unusable_source_is_refused_before_upload(
    client: Lipwright, service: MemoryService, tmp_path: Path
) -> None:
    with pytest.raises(package.UploadError, match="there is no file"):
        client.jobs.create(audio=tmp_path / "missing.wav", video=b"film")
    with pytest.raises(package.UploadError, match="mode 'rb'"):
        client.jobs.create(audio=io.StringIO("sound"), video=b"film")  # type: ignore[arg-type]
    with pytest.raises(package.UploadError, match="found int"):
        client.jobs.create(audio=5, video=b"film")  # type: ignore[arg-type]
    assert not service.asked


@pytest.mark.parametrize(("name", "kind"), [("x.webm", "webm"), ("x.MOV", "mov"), ("x.mp4", "mp4"), ("x", "mp4")])
def test_speak_out_suffix_sets_format(
    client: Lipwright, service: MemoryService, tmp_path: Path, name: str, kind: str
) -> None:
    service.outcome = "video"
    job = client.speak(audio=b"sound", video=b"film", out=tmp_path / name)
    assert job.options["format"] == kind and (tmp_path / name).read_bytes() == VIDEO_BYTES


@pytest.mark.parametrize(("name", "chosen"), [("x.avi", None), ("x.mp4", "webm"), ("x.gif", "mov")])
def test_speak_out_other_suffix_raises_before_upload(
    client: Lipwright, service: MemoryService, tmp_path: Path, name: str, chosen: str | None
) -> None:
    with pytest.raises(package.UploadError, match=r"out: expected a file name that ends in \.\w+"):
        client.speak(audio=b"sound", video=b"film", out=str(tmp_path / name), format=chosen)
    assert not service.asked


def test_unreachable_service_error_names_address() -> None:
    port = quiet_port()
    with Lipwright(f"http://127.0.0.1:{port}", retry=RetryPolicy(0, 0, 0)) as client:
        calls = (client.status, lambda: next(client.jobs.events("0" * 32)), lambda: client.jobs.wait("0" * 32))
        for call in calls:
            message = rf"service at http://127.0.0.1:{port} cannot be"
            with pytest.raises(package.ConnectionFailedError, match=message) as raised:
                call()
            assert "site-packages" not in "".join(traceback.format_exception(raised.value))


def test_jobs_list_get_cancel_and_delete(client: Lipwright, service: MemoryService) -> None:
    first = client.jobs.create(audio=b"sound", video=b"film")
    second = client.jobs.create(audio=b"sound", video=b"film")
    assert first.id != second.id, "each call makes a job of its own"
    assert [job.id for job in client.jobs.list()] == [second.id, first.id]
    assert client.jobs.list(limit=1)[0].id == second.id
    service.finish(first.id)
    assert [job.id for job in client.jobs.list(status="succeeded")] == [first.id]
    assert client.jobs.get(first.id).status == "succeeded"
    assert client.jobs.cancel(second.id).status == "cancelled"
    unfinished = client.jobs.create(audio=b"sound", video=b"film", idempotency_key="mine")
    assert client.jobs.create(audio=b"sound", video=b"film", idempotency_key="mine").id == unfinished.id
    client.jobs.delete(unfinished.id)
    with pytest.raises(package.NotFoundError) as missing:
        client.jobs.get(unfinished.id)
    assert (missing.value.code, missing.value.title, missing.value.problem.status) == ("not_found", "Not found", 404)
    assert unfinished.id in missing.value.detail and not missing.value.retryable


def test_avatars_engines_status_and_voices_are_read(client: Lipwright, service: MemoryService) -> None:
    avatar = client.avatars.create(video=("anna.mp4", b"film"), face="0")
    assert (avatar.label, avatar.face, avatar.status, avatar.info) == ("anna.mp4", "0", "analysing", None)
    assert [each.id for each in client.avatars.list()] == [avatar.id] == [client.avatars.get(avatar.id).id]
    with pytest.raises(package.WaitTimeoutError):
        client.avatars.wait(avatar.id, timeout_s=0.3)
    client.jobs.create(audio=b"sound", avatar_id=avatar.id)
    client.avatars.delete(avatar.id)
    assert client.avatars.list() == ()
    engines = client.engines.list()
    assert [engine.name for engine in engines if engine.is_default] == ["warp"]
    assert any("models add" in role.add_command for engine in engines for role in engine.missing)
    assert "restoration" in [step.name for step in client.engines.steps()]
    assert client.status().queue.max_queued == 8
    assert client.voices().max_chars > 0


def test_events_follow_the_job_to_its_end(client: Lipwright, service: MemoryService) -> None:
    job = client.jobs.create(audio=b"sound", video=b"film")
    events = client.jobs.events(job.id)
    assert next(events).status == "queued"
    service.table.update_job(job.id, status=JobStatus.RUNNING, progress=0.25)
    assert next(events).progress == 0.25
    service.finish(job.id)
    assert [seen.status for seen in events][-1] == "succeeded"
    assert client.jobs.wait(job.id).status == "succeeded"
    service.fail(failed := client.jobs.create(audio=b"sound", video=b"film").id, FaceNotFoundError("no face"))
    with pytest.raises(package.StateError):
        list(client.jobs.preview(failed))


def test_speak_failed_job_raises_by_its_code(client: Lipwright, service: MemoryService, tmp_path: Path) -> None:
    service.outcome = FaceNotFoundError("v.mp4: expected a face, found none.")
    with pytest.raises(package.FaceNotFoundError) as failed:
        client.speak(video=b"film", audio=b"sound", out=tmp_path / "out.mp4")
    assert isinstance(failed.value, ValueError) and failed.value.detail == "v.mp4: expected a face, found none."
    assert failed.value.job_id == client.jobs.list()[0].id
    assert not (tmp_path / "out.mp4").exists()
    with pytest.raises(package.OptionError):
        client.speak(video=b"film", audio=b"sound", engine="nonesuch")


def test_speak_timed_out_or_interrupted_cancels_the_job(client: Lipwright, service: MemoryService) -> None:
    with pytest.raises(package.WaitTimeoutError, match=r"within 0\.5 s"):
        client.speak(video=b"film", audio=b"sound", timeout_s=0.5)
    (job,) = client.jobs.list()
    assert job.status == "cancelled"

    def interrupt(job: Job) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.speak(video=b"film", audio=b"sound", on_change=interrupt)
    assert [job.status for job in client.jobs.list()] == ["cancelled", "cancelled"]


def test_client_reads_url_and_key_from_the_environment(
    service: MemoryService, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, key = FileKeyRing(service.files.root).add("me")
    monkeypatch.setenv("LIPWRIGHT_URL", f"{url}/")
    with pytest.raises(package.UnauthorizedError):
        Lipwright().status()
    assert Lipwright(api_key=key).status().queue.num_queued == 0
    monkeypatch.setenv("LIPWRIGHT_API_KEY", key)
    assert Lipwright().base_url == url
    assert Lipwright().status().queue.num_queued == 0
    with pytest.raises(package.UnauthorizedError):
        Lipwright(api_key="lw_wrong").status()


def test_create_full_queue_retries_with_the_same_key(client: Lipwright, service: MemoryService) -> None:
    service.num_refusals = 2
    client.jobs.create(audio=b"sound", video=io.BytesIO(b"film"))
    keys = {request.idempotency_key for request in service.asked}
    assert len(service.asked) == 3 and len(keys) == 1 and None not in keys
    assert len(service.requests) == 1


def test_create_full_queue_beyond_max_wait_raises(service: MemoryService, url: str) -> None:
    service.is_full = True
    with pytest.raises(package.CapacityError) as full:
        Lipwright(url, retry=RetryPolicy(max_backpressure_wait_s=1)).jobs.create(audio=b"sound", video=b"film")
    assert full.value.retryable
    assert len(service.asked) == 1, "it asks to wait for seven seconds"


def test_events_over_max_event_streams_retries(service: MemoryService) -> None:
    with serving(service, jobs=JobConfig(max_event_streams=1)) as url:
        client = Lipwright(url)
        job = client.jobs.create(audio=b"sound", video=b"film")
        first = client.jobs.events(job.id)
        assert next(first).status == "queued"
        is_refused = threading.Event()
        seen: list[str] = []

        def follow() -> None:
            second = Lipwright(url)
            second._async._transport.io.http.event_hooks["response"].append(lambda _: is_refused.set())
            seen.extend(one.status for one in second.jobs.events(job.id))

        thread = threading.Thread(target=follow)
        thread.start()
        assert is_refused.wait(30)  # with Retry-After: 5
        service.finish(job.id)
        assert list(first)[-1].status == "succeeded"
        thread.join(60)
        assert seen == ["succeeded"]


async def test_async_client_speaks_and_follows_events(service: MemoryService, url: str, tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").write_bytes(b"film" * 50_000)
    async with AsyncLipwright(url) as client:
        service.outcome, service.num_refusals = "video", 1
        job = await client.speak(video=tmp_path / "anna.mp4", audio=b"sound", out=tmp_path / "out.mp4")
        assert (tmp_path / "out.mp4").read_bytes() == VIDEO_BYTES
        sent = service.requests[0].video
        assert sent is not None and sent.label == "anna.mp4"
        assert on_disk(service.files, upload_key(sent.key)).read_bytes() == b"film" * 50_000
        await client.jobs.delete(job.id)
        with pytest.raises(package.NotFoundError):
            await client.jobs.get(job.id)
        service.outcome = None
        job = await client.jobs.create(audio=b"sound", video=b"film")
        seen = []
        async for each in client.jobs.events(job.id):
            seen.append(each.status)
            if not each.is_final:
                service.finish(job.id)
        assert seen[0] == "queued" and seen[-1] == "succeeded"


async def test_async_speak_cancelled_cancels_the_job(service: MemoryService, url: str) -> None:
    async with AsyncLipwright(url) as client:
        started = asyncio.Event()
        speaking = client.speak(video=b"film", audio=b"sound", on_change=lambda _: started.set())
        task = asyncio.create_task(speaking)
        await asyncio.wait_for(started.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [job.status for job in await client.jobs.list()] == ["cancelled"]


def _kinds(kind: type[Any]) -> list[type[Any]]:
    return [kind, *(each for child in kind.__subclasses__() for each in _kinds(child))]


def test_problem_error_knows_every_service_code() -> None:
    ours = [each for each in _kinds(LipwrightError) if each.__module__ == service_errors.__name__]
    for kind in ours:
        error = problem_error(Problem(kind.code, "t", "d", kind.status_code, kind.retryable))
        assert getattr(error, "known_code", "") == kind.code, f"lipwright_client knows no {kind.code}"
    assert type(problem_error(Problem("new_code", "t", "d", 422))) is package.InputError
    assert type(problem_error(Problem("new_code", "t", "d", 507))) is package.ServiceError


def test_client_errors_survive_pickling() -> None:
    problem = Problem("face_not_found", "Face not found", "none", 422)
    for kind in _kinds(package.ClientError):
        error = kind(problem, "job") if issubclass(kind, ProblemError) else kind("a line")
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is kind and (copy.code, copy.detail, str(copy)) == (error.code, error.detail, str(error))


def test_client_pyproject_matches_the_repository(repo_root: Path) -> None:
    folder = repo_root / "lipwright_client"
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    whole = tomllib.loads((repo_root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["project"]["version"] == package.__version__ == whole["version"]
    assert not [path for path in folder.iterdir() if path.is_dir() and list(path.glob("*.py"))], "a folder is left out"
    in_both = [line for line in project["project"]["dependencies"] if line in whole["dependencies"]]
    assert in_both == project["project"]["dependencies"], "one environment holds both"


def test_create_turns_sends_files_and_texts(tmp_path: Path) -> None:
    service = MemoryService(tmp_path)
    with serving(service) as url, Lipwright(url) as client:
        job = client.jobs.create(
            video=("face.png", b"\x89PNG\r\n\x1a\n" + bytes(64)),
            more_audio={"audio_anna": ("anna.wav", tone(1))},
            turns=[
                {"start": 0, "end": 1, "face": "0", "audio": "audio_anna"},
                {"start": 1, "end": 2, "face": "1", "text": "Hello"},
            ],
            idle_mouths="closed",
        )
        assert client.jobs.subtitles(job.id) == "1\n00:00:01,000 --> 00:00:02,000\nHello\n"
    (request,) = service.requests
    assert request.audio_files["audio_anna"].label == "anna.wav"
    assert [turn.audio for turn in request.options.turns or ()] == ["audio_anna", "audio"]
    assert request.options.idle_mouths == "closed"
