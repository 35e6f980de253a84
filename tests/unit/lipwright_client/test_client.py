"""What a program does with the client, against the real API on a real socket."""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import tomllib
import traceback
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

import lipwright.errors as service_errors
import lipwright_client as package
from lipwright.errors import FaceNotFoundError, LipwrightError
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.requests import RequestContext
from lipwright.storage.file_keys import job_file_key, upload_key
from lipwright.storage.local.api_keys import FileKeyRing
from lipwright_client import AsyncLipwright, Job, Lipwright, Problem, ProblemError, RetryPolicy
from lipwright_client.errors import problem_error
from lipwright_client.from_json import from_json
from tests.ports import quiet_port
from tests.unit.api_server import VIDEO_BYTES, MemoryService
from tests.unit.on_disk import on_disk
from tests.unit.quality_report import example_report
from tests.unit.speech.speech_server import tone


@pytest.fixture
def client(url: str) -> Iterator[Lipwright]:
    with Lipwright(url) as client:
        yield client


class _Service(MemoryService):
    """Speaks texts of jobs with `review` at once."""

    async def submit(self, spec: JobSpec, context: RequestContext) -> JobRecord:
        job = await super().submit(spec, context)
        return self.review(job.id) if spec.review else job


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    return _Service(tmp_path / "service")


def test_speak_returns_the_job_and_writes_the_video(client: Lipwright, service: MemoryService, tmp_path: Path) -> None:
    service.outcome, service.report = "video", example_report()
    (tmp_path / "anna.mp4").write_bytes(b"film")
    seen: list[Job] = []
    fields: dict[str, Any] = {"audio": b"sound", "loop": "hold", "metadata": {"order": "17"}}
    job = client.speak(video=tmp_path / "anna.mp4", **fields, out=tmp_path / "out.mp4", on_change=seen.append)
    assert (tmp_path / "out.mp4").read_bytes() == VIDEO_BYTES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["anna.mp4", "out.mp4", "service"]
    assert (job.status, job.num_frames, job.progress, job.is_final) == ("succeeded", 50, 1.0, True)
    assert (job.inputs.source, job.metadata, job.options["loop"]) == ("anna.mp4", {"order": "17"}, "hold")
    assert job.created_at.utcoffset() == timedelta(0) and seen[-1] == job
    assert job.report is not None and job.report["warnings"] == service.report["warnings"]


def _pipe() -> io.BufferedReader:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        file.write(b"sound")
    return os.fdopen(reading, "rb")


def test_create_accepts_paths_bytes_files_and_data_urls(
    client: Lipwright, service: MemoryService, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"sound")
    sources: list[tuple[Any, str | None]] = [
        *((path, "a.wav"), (str(path), "a.wav"), (path.open("rb"), "a.wav"), (("piped.wav", _pipe()), "piped.wav")),
        *((content, "audio") for content in (b"sound", bytearray(b"sound"), io.BytesIO(b"sound"))),
        *((("named.wav", b"sound"), "named.wav"), ("data:audio/wav;base64,c291bmQ=", None)),
    ]
    for audio, name in sources:
        job = client.jobs.create(audio=audio, video=("v.mp4", b"film"))
        assert on_disk(service.files, job_file_key(job.id)).read_bytes() == b"sound", audio
        assert name is None or job.inputs.audio == name


def test_create_unusable_source_sends_nothing(client: Lipwright, service: MemoryService, tmp_path: Path) -> None:
    sources: list[tuple[Any, str]] = [(tmp_path / "missing.wav", "there is no file"), (5, "found int")]
    for source, words in (*sources, (io.StringIO("sound"), "mode 'rb'")):
        with pytest.raises(package.UploadError, match=words):
            client.jobs.create(audio=source, video=b"film")
    assert not service.asked


def test_out_suffix_is_format(client: Lipwright, service: MemoryService, tmp_path: Path) -> None:
    service.outcome = "video"
    for name, kind in (("x.webm", "webm"), ("x.MOV", "mov"), ("x.mp4", "mp4"), ("x", "mp4")):
        job = client.speak(audio=b"sound", video=b"film", out=tmp_path / name)
        assert job.options["format"] == kind and (tmp_path / name).read_bytes() == VIDEO_BYTES
    num_asked = len(service.asked)
    for other, chosen in (("x.avi", None), ("x.mp4", "webm"), ("x.gif", "mov")):
        with pytest.raises(package.UploadError, match=r"out: expected a file name that ends in \.\w+"):
            client.speak(audio=b"sound", video=b"film", out=str(tmp_path / other), format=chosen)
    assert len(service.asked) == num_asked


def test_unreachable_service_error_names_address() -> None:
    port = quiet_port()
    message = rf"service at http://127.0.0.1:{port} cannot be"
    with Lipwright(f"http://127.0.0.1:{port}", retry=RetryPolicy(0, 0, 0)) as client:
        for call in (client.status, lambda: next(client.jobs.events("0" * 32)), lambda: client.jobs.wait("0" * 32)):
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


def test_client_reads_environment_variables(service: MemoryService, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, key = FileKeyRing(service.files.root).add("me")
    monkeypatch.setenv("LIPWRIGHT_URL", f"{url}/")
    with Lipwright() as keyless, pytest.raises(package.UnauthorizedError):
        keyless.status()
    with Lipwright(api_key=key) as client:
        assert client.status().queue.num_queued == 0
    monkeypatch.setenv("LIPWRIGHT_API_KEY", key)
    with Lipwright() as client:
        assert client.base_url == url
        assert client.status().queue.num_queued == 0
    with Lipwright(api_key="lw_wrong") as wrong, pytest.raises(package.UnauthorizedError):
        wrong.status()


def test_create_full_queue_retries_with_the_same_key(client: Lipwright, service: MemoryService, url: str) -> None:
    service.num_refusals = 1
    client.jobs.create(audio=b"sound", video=io.BytesIO(b"film"))
    keys = {request.idempotency_key for request in service.asked}
    assert len(service.asked) == 2 and len(keys) == 1 and None not in keys
    assert len(service.requests) == 1
    service.is_full = True
    with pytest.raises(package.CapacityError) as full:
        Lipwright(url, retry=RetryPolicy(max_backpressure_wait_s=1)).jobs.create(audio=b"sound", video=b"film")
    assert full.value.retryable
    assert len(service.asked) == 3, "it asks to wait for seven seconds"


async def test_async_client_speaks(service: MemoryService, url: str, tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").write_bytes(b"film" * 50_000)
    async with AsyncLipwright(url) as client:
        service.outcome, service.num_refusals = "video", 1
        await client.speak(video=tmp_path / "anna.mp4", audio=b"sound", out=tmp_path / "out.mp4")
        assert (tmp_path / "out.mp4").read_bytes() == VIDEO_BYTES
        sent = service.requests[0].video
        assert sent is not None and sent.label == "anna.mp4"
        assert on_disk(service.files, upload_key(sent.key)).read_bytes() == b"film" * 50_000


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


def test_create_turns_sends_files_and_texts(client: Lipwright, service: MemoryService) -> None:
    turns = [{"start": 0, "end": 1, "face": "0", "audio": "audio_anna"}, {"start": 1, "end": 2, "text": "Hello"}]
    more = {"audio_anna": ("anna.wav", tone(1))}
    job = client.jobs.create(video=b"film", more_audio=more, turns=turns, idle_mouths="closed")
    assert client.jobs.subtitles(job.id) == "1\n00:00:01,000 --> 00:00:02,000\nHello\n"
    (request,) = service.requests
    assert request.audio_files["audio_anna"].label == "anna.wav"
    assert [turn.audio for turn in request.options.turns or ()] == ["audio_anna", "audio"]
    assert request.options.idle_mouths == "closed"


_SRT = b"1\n00:00:01,000 --> 00:00:02,000\nANNA: Hello\n\n2\n00:00:03,000 --> 00:00:04,000\nBOB: Good day\n"
_FIELDS: dict[str, Any] = {"video": ("face.png", b"\x89PNG\r\n\x1a\n" + bytes(64)), "subtitles": ("a.srt", _SRT)}


@pytest.fixture
def draft(client: Lipwright) -> Job:
    return client.jobs.create(review=True, **_FIELDS)


def _texts(turns: package.Turns) -> list[tuple[float, str | None]]:
    return [(turn.start, turn.text) for turn in turns.turns]


def test_wait_returns_a_job_in_review(client: Lipwright, draft: Job, tmp_path: Path) -> None:
    seen: list[str] = []
    job = client.jobs.wait(draft.id, timeout_s=30, on_change=lambda job: seen.append(job.count))
    assert (job.status, job.is_final, job.is_waiting_for_review, seen) == ("review", False, True, ["text 2 of 2"])
    job = client.speak(out=tmp_path / "out.mp4", review=True, **_FIELDS)
    assert (job.status, (tmp_path / "out.mp4").exists()) == ("review", False)


def test_turns_are_read_and_edited(client: Lipwright, draft: Job) -> None:
    jobs, turns = client.jobs, client.jobs.turns(draft.id)
    assert (turns.status, _texts(turns)) == ("review", [(1.0, "Hello"), (3.0, "Good day")])
    first = turns.turns[0]
    assert (first.number, first.speaker, first.end, first.natural_seconds is None) == (0, "ANNA", 2.0, False)
    assert b"Hello" in jobs.turn_audio(draft.id, 0)
    turns = jobs.edit_turn(draft.id, 0, turns.version, text="Hi", end=None)
    assert (turns.turns[0].text, turns.turns[0].end) == ("Hi", None)
    turns = jobs.add_turn(draft.id, "Bye", 5.0, turns.version, speaker="BOB", end=6.0)
    assert _texts(turns) == [(1.0, "Hi"), (3.0, "Good day"), (5.0, "Bye")]
    turns = jobs.split_turn(draft.id, 1, 3.5, "Good", "day")
    assert _texts(turns)[1:3] == [(3.0, "Good"), (3.5, "day")]
    assert _texts(jobs.remove_turn(draft.id, 1, turns.version)) == [(1.0, "Hi"), (3.5, "day"), (5.0, "Bye")]
    with pytest.raises(package.StateError, match="changed in the meantime"):
        jobs.remove_turn(draft.id, 0, turns.version)
    with pytest.raises(package.UploadError, match="at least one field"):
        jobs.edit_turn(draft.id, 0)


def test_approved_job_is_rendered_and_may_be_revised(client: Lipwright, service: MemoryService, draft: Job) -> None:
    assert client.jobs.approve(draft.id).status == client.jobs.approve(draft.id).status == "queued"
    service.finish(draft.id)
    assert client.jobs.wait(draft.id).status == "succeeded"
    with pytest.raises(package.StateError):
        client.jobs.edit_turn(draft.id, 0, text="Hi")
    revised = client.jobs.revise(draft.id, turns=[{"number": 0, "text": "Hi."}], settings={"loudness_lufs": -16})
    assert (revised.revision_of, revised.options["loudness_lufs"]) == (draft.id, -16)
    with pytest.raises(package.UploadError):
        client.jobs.revise(draft.id)


@pytest.mark.parametrize(("method", "num_requests"), [("remove", 1), ("approve", 2), ("remove through a gateway", 1)])
def test_edit_whose_response_is_lost_is_not_repeated(method: str, num_requests: int) -> None:
    requests: list[httpx.Request] = []

    def lose(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        if "gateway" in method:
            return httpx.Response(504, text="Gateway Timeout", request=request)
        raise httpx.ReadError("broken", request=request)

    error = package.UnexpectedAnswerError if "gateway" in method else package.ConnectionFailedError
    retry, transport = RetryPolicy(max_reconnects=1), httpx.MockTransport(lose)
    with Lipwright("http://127.0.0.1:9", retry=retry, transport=transport) as client, pytest.raises(error):
        client.jobs.approve("a") if method == "approve" else client.jobs.remove_turn("a", 0)
    assert len(requests) == num_requests


@pytest.mark.parametrize(
    ("stage", "counts", "count"),
    [
        *(("speaking", {"num_cues": None}, ""), ("speaking", {"num_cues": 60, "num_cues_done": 12}, "text 12 of 60")),
        ("rendering", {"num_cues": 60, "num_cues_done": 60}, ""),
        ("rendering", {"num_frames_done": 100, "num_frames": 250}, "frame 100 of 250"),
    ],
)
def test_count_is_that_of_the_stage(stage: str, counts: dict[str, Any], count: str) -> None:
    job = {"id": "a", "status": "running", "progress": 0, "num_frames_done": 0, "num_frames": None, "stage": stage}
    assert from_json(Job, {**job, "created_at": "2026-01-01T00:00:00+00:00", **counts}).count == count
