"""A batch over a Director that keeps its jobs in this process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from api.forms.turn_sources import SpeakerChoice
from cluster.batch import DirectorRenderer
from cluster.batch_record import open_record
from cluster.batch_run import Batch, BatchLimits
from cluster.manifest import Pair, read_manifest
from config import PipelineConfig, TtsConfig
from errors import CapacityError, FaceNotFoundError, InputError, NotFoundError, StateError
from jobs.admission import Admission, AdmitRequest
from jobs.messages import PeopleScan
from jobs.model.files import ErrorRecord, utc_now
from jobs.model.record import JobPage, JobQuery, JobRecord, JobStatus
from jobs.model.turns import Turn
from jobs.requests import AvatarChange, AvatarRequest, BackgroundRequest, JobRequest, TurnFacts, TurnsRequest
from jobs.status import ServiceStatus
from storage.backgrounds import BackgroundRecord
from storage.file_keys import job_file_key, result_key
from storage.file_store import FileStore
from storage.records import AvatarRecord, SegmentRecord, avatar_key
from tests.hostile_folder import imported_modules, make_hostile_folder
from tests.unit.on_disk import on_disk
from tests.unit.speech.speech_server import speaking, tone


class LocalDirector:
    """Implements `JobService`: a job's result is its speech; `silent` speech fails; `endless` speech never ends."""

    def __init__(self, files: FileStore, num_refusals: int = 0) -> None:
        self._files = files
        self._num_refusals = num_refusals
        self.jobs: dict[str, JobRecord] = {}
        self.max_unfinished = 0
        self.num_awaited = 0  # no job ends before so many were there at once

    async def admit(self, request: AdmitRequest) -> Admission:
        raise AssertionError("a batch has its files here and asks for no place")

    async def widen(self, request: AdmitRequest, admission_id: str) -> Admission:
        raise AssertionError("a batch names no URLs")

    async def extend(self, admission_id: str, num_bytes: int) -> int:
        raise AssertionError("a batch has no bodies")

    async def release(self, admission_id: str) -> None:
        raise AssertionError("a batch has no place to give back")

    async def submit(self, request: JobRequest) -> JobRecord:
        if self._num_refusals:
            self._num_refusals -= 1
            raise CapacityError("full", 0.01)
        assert request.video is not None
        job = JobRecord(
            id=request.job_id,
            options=request.options,
            audio=request.audio,
            more_audio=request.more_audio,
            avatar_key=avatar_key(request.video.sha256, request.options.face, "1"),
            created_at=utc_now(),
        )
        self._files.take_upload(request.audio.key, job_file_key(job.id))
        for name, file in request.more_audio.items():
            self._files.take_upload(file.key, job_file_key(job.id, name))
        self._files.delete_upload(request.video.key)
        self.jobs[job.id] = job
        self.max_unfinished = max(self.max_unfinished, sum(not j.status.is_final for j in self.jobs.values()))
        return job

    async def delete_job(self, job_id: str, owner: str | None) -> None:
        raise AssertionError("a batch keeps its jobs")

    async def finished_segments(self, job_id: str, owner: str | None) -> list[SegmentRecord]:
        raise AssertionError("a batch looks at no preview")

    async def get_job(self, job_id: str, owner: str | None) -> JobRecord:
        if job_id not in self.jobs:
            raise NotFoundError(f"There is no job {job_id}.")
        return self.jobs[job_id]

    async def find_job(self, idempotency_key: str, owner: str | None) -> JobRecord | None:
        raise AssertionError("a batch knows its jobs by their ids")

    async def release_idempotency_key(self, job_id: str, owner: str | None) -> None:
        raise AssertionError("a batch gives no keys")

    async def list_jobs(self, query: JobQuery) -> JobPage:
        raise AssertionError("a batch lists no jobs")

    async def wait_job(self, job_id: str, version: int, timeout_s: float) -> JobRecord:
        speech = on_disk(self._files, job_file_key(job_id)).read_bytes()
        if speech == b"endless":
            await asyncio.sleep(timeout_s)
            return self.jobs[job_id]
        await asyncio.sleep(0.01)
        while self.max_unfinished < self.num_awaited:  # noqa: ASYNC110  # `submit` may come from any side
            await asyncio.sleep(0.01)
        if speech == b"silent":
            error = ErrorRecord.of(FaceNotFoundError("no face"))
            return self._change(job_id, status=JobStatus.FAILED, error=error)
        on_disk(self._files, result_key(job_id)).write_bytes(speech)
        return self._change(job_id, status=JobStatus.SUCCEEDED, report={"warnings": ["as made"]})

    async def cancel_job(self, job_id: str, owner: str | None) -> JobRecord:
        return self._change(job_id, status=JobStatus.CANCELLED)

    async def retry_job(self, job_id: str, new_id: str, owner: str | None) -> JobRecord:
        raise AssertionError("a batch sends its pairs again itself")

    async def create_avatar(self, request: AvatarRequest) -> AvatarRecord:
        raise NotFoundError("no avatars here")

    async def change_avatar(self, request: AvatarChange) -> AvatarRecord:
        raise NotFoundError("no avatars here")

    async def get_avatar(self, avatar_id: str, owner: str | None) -> AvatarRecord:
        raise NotFoundError("no avatars here")

    async def check_turns(self, request: TurnsRequest) -> TurnFacts:
        return TurnFacts(faces=tuple(turn.face for turn in request.turns), video_seconds=None)

    async def people(self, avatar_id: str, owner: str | None) -> PeopleScan:
        raise AssertionError("a batch asks for nobody")

    async def list_avatars(self, owner: str | None) -> list[AvatarRecord]:
        return []

    async def delete_avatar(self, avatar_id: str, owner: str | None) -> None:
        raise NotFoundError("no avatars here")

    async def create_background(self, request: BackgroundRequest) -> BackgroundRecord:
        raise NotFoundError("no backgrounds here")

    async def delete_background(self, file_id: str, owner: str | None) -> None:
        raise NotFoundError("no backgrounds here")

    async def status(self) -> ServiceStatus:
        raise NotFoundError("nothing to tell")

    async def ready(self) -> bool:
        return True

    def _change(self, job_id: str, **changes: Any) -> JobRecord:
        job = self.jobs[job_id]
        self.jobs[job_id] = job.model_copy(update={"version": job.version + 1, **changes})
        return self.jobs[job_id]


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "data")


def _pairs(folder: Path, *speeches: bytes) -> list[Pair]:
    (folder / "face.mp4").write_bytes(b"face")
    pairs = []
    for line, speech in enumerate(speeches, start=1):
        (folder / f"{line}.wav").write_bytes(speech)
        out = folder / "out" / f"{line}.mp4"
        pairs.append(Pair(line=line, video=folder / "face.mp4", audio=folder / f"{line}.wav", out=out))
    return pairs


def _run(
    director: LocalDirector,
    files: FileStore,
    limits: BatchLimits,
    pairs: list[Pair],
    config: PipelineConfig | None = None,
) -> dict[int, dict[str, Any]]:
    """The reports of what is not done yet, by the manifest's line; the record lies beside the data folder."""

    async def collect() -> dict[int, dict[str, Any]]:
        with open_record(files.table_path.parents[1] / "results.jsonl") as record:
            batch = Batch(DirectorRenderer(director, files, config or PipelineConfig()), record, limits)
            rest = [pair for pair in pairs if record.done(pair) is None]
            return {report["line"]: report async for report in batch.run(rest)}

    return asyncio.run(collect())


def test_results_arrive_and_failures_are_reported(files: FileStore, tmp_path: Path) -> None:
    pairs = _pairs(tmp_path, b"one", b"silent", b"three")
    reports = _run(LocalDirector(files), files, BatchLimits(2, 60), pairs)
    assert [reports[line]["status"] for line in (1, 2, 3)] == ["succeeded", "failed", "succeeded"]
    assert reports[2]["error"]["code"] == "face_not_found"
    assert [reports[line]["quality"] for line in (1, 2)] == [{"warnings": ["as made"]}, None]
    assert (tmp_path / "out" / "1.mp4").read_bytes() == b"one"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.mp4", "3.mp4"]


def test_texts_are_spoken_no_more_at_once_than_the_voice_allows(files: FileStore, tmp_path: Path) -> None:
    (first,) = _pairs(tmp_path, b"speech")
    texts = [f"Good morning {number}." for number in range(5)]
    pairs = [
        first.model_copy(update={"line": line, "audio": None, "text": text, "out": tmp_path / f"{line}.mp4"})
        for line, text in enumerate(texts, start=1)
    ]
    with speaking() as voice:
        config = PipelineConfig(tts=TtsConfig(url=voice.url, voice="af_heart", max_concurrent=1))
        reports = _run(LocalDirector(files), files, BatchLimits(5, 60), pairs, config)
    assert {report["status"] for report in reports.values()} == {"succeeded"}, reports
    assert sorted((asked["input"], asked["voice"]) for asked in voice.asked) == [(text, "af_heart") for text in texts]
    assert (tmp_path / "5.mp4").read_bytes() == tone()
    assert _run(LocalDirector(files), files, BatchLimits(5, 60), pairs, config) == {}
    other = pairs[0].model_copy(update={"text": "Another text."})
    without_voice = PipelineConfig(tts=TtsConfig(use_builtin=False))
    (refused,) = _run(LocalDirector(files), files, BatchLimits(5, 60), [other], without_voice).values()
    assert "this service has no voice" in refused["error"]["message"]


def test_subtitles_are_spoken(files: FileStore, tmp_path: Path) -> None:
    (first,) = _pairs(tmp_path, b"speech")
    (tmp_path / "de.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nANNA: Hallo\n")
    speakers = {"anna": SpeakerChoice(face="1", voice="nova")}
    pair = first.model_copy(update={"audio": None, "subtitles": tmp_path / "de.srt", "speakers": speakers})
    director = LocalDirector(files)
    with speaking() as voice:
        (report,) = _run(
            director, files, BatchLimits(1, 60), [pair], PipelineConfig(tts=TtsConfig(url=voice.url))
        ).values()
    assert report["status"] == "succeeded", report
    assert [(asked["input"], asked["voice"]) for asked in voice.asked] == [("Hallo", "nova")]
    other = pair.model_copy(update={"speakers": {"bob": SpeakerChoice(face="1")}})
    (refused,) = _run(director, files, BatchLimits(1, 60), [other], PipelineConfig()).values()
    assert "no speaker 'bob'" in refused["error"]["message"]


def test_several_people_speak(files: FileStore, tmp_path: Path) -> None:
    first, second = _pairs(tmp_path, b"speech", b"another speech")
    turns = (Turn(start=0, face="0"), Turn(start=1, face="1", audio="audio_bob"))
    with_turns = first.model_copy(update={"turns": turns, "more_audio": {"audio_bob": tmp_path / "2.wav"}})
    (tmp_path / "a.rttm").write_text("SPEAKER a 1 0.5 1.5 <NA> <NA> Anna <NA> <NA>\n")
    speakers = {"Anna": SpeakerChoice(face="1")}
    sounds = {"music": tmp_path / "1.wav", "music_gain_db": -6.0, "idle_mouths": "closed"}
    diarized = second.model_copy(update={"diarization": tmp_path / "a.rttm", "speakers": speakers, **sounds})
    director = LocalDirector(files)
    reports = _run(director, files, BatchLimits(1, 60), [with_turns, diarized])
    assert [reports[line]["status"] for line in (1, 2)] == ["succeeded", "succeeded"], reports
    one, two = (director.jobs[reports[line]["job_id"]] for line in (1, 2))
    assert one.options.turns == turns
    assert on_disk(files, job_file_key(one.id, "audio_bob")).read_bytes() == b"another speech"
    assert [(turn.face, turn.start, turn.end) for turn in two.options.turns or ()] == [("1", 0.5, 2.0)]
    assert (two.options.idle_mouths, two.options.music_gain_db) == ("closed", -6)
    assert on_disk(files, job_file_key(two.id, "music")).read_bytes() == b"speech"
    assert not list(on_disk(files, "uploads").glob("*")), "no upload is left"
    assert _run(director, files, BatchLimits(1, 60), [with_turns, diarized]) == {}
    louder = diarized.model_copy(update={"music_gain_db": 0.0})
    assert list(_run(director, files, BatchLimits(1, 60), [with_turns, louder])) == [2]
    other = with_turns.model_copy(update={"turns": turns[1:]})
    assert list(_run(director, files, BatchLimits(1, 60), [other, diarized])) == [1]


def test_no_more_than_allowed_are_in_flight(files: FileStore, tmp_path: Path) -> None:
    director = LocalDirector(files)
    director.num_awaited = 2
    reports = _run(director, files, BatchLimits(2, 20), _pairs(tmp_path, *[b"speech"] * 7))
    assert {report["status"] for report in reports.values()} == {"succeeded"}
    assert director.max_unfinished == 2


def test_a_full_service_is_asked_again(files: FileStore, tmp_path: Path) -> None:
    director = LocalDirector(files, num_refusals=3)
    reports = _run(director, files, BatchLimits(1, 60), _pairs(tmp_path, b"speech"))
    assert reports[1]["status"] == "succeeded"


def test_a_pair_that_never_ends_is_cancelled(files: FileStore, tmp_path: Path) -> None:
    director = LocalDirector(files)
    reports = _run(director, files, BatchLimits(2, 5), _pairs(tmp_path, b"endless", b"speech"))
    assert reports[1]["error"]["code"] == "stage_timeout"
    assert reports[2]["status"] == "succeeded"
    assert sorted(job.status.value for job in director.jobs.values()) == ["cancelled", "succeeded"]


def test_a_file_that_vanished_fails_its_pair_alone(files: FileStore, tmp_path: Path) -> None:
    pairs = _pairs(tmp_path, b"one", b"two")
    (tmp_path / "1.wav").unlink()
    reports = _run(LocalDirector(files), files, BatchLimits(2, 60), pairs)
    assert reports[1]["error"]["code"] == "file_error"
    assert reports[2]["status"] == "succeeded"
    assert list((tmp_path / "data" / "uploads").iterdir()) == []


def test_what_is_done_is_not_done_again(files: FileStore, tmp_path: Path) -> None:
    pairs = _pairs(tmp_path, b"one", b"silent", b"three")
    limits = BatchLimits(2, 60)
    assert len(_run(LocalDirector(files), files, limits, pairs)) == 3
    assert _run(LocalDirector(files), files, limits, pairs) == {}, "a failure of the caller's is final"
    assert isinstance(pairs[2].out, Path)
    pairs[2].out.unlink()
    (tmp_path / "4.wav").write_bytes(b"four")
    pairs.insert(0, pairs[0].model_copy(update={"line": 4, "audio": tmp_path / "4.wav", "out": tmp_path / "4.mp4"}))
    assert set(_run(LocalDirector(files), files, limits, pairs)) == {3, 4}
    assert (tmp_path / "out" / "3.mp4").read_bytes() == b"three"


def test_a_killed_batch_goes_on_with_the_jobs_that_it_began(files: FileStore, tmp_path: Path) -> None:
    pairs, director = _pairs(tmp_path, b"one", b"two"), LocalDirector(files)
    path = tmp_path / "results.jsonl"
    with open_record(path) as record:
        names = [record.name(pair) for pair in pairs]
    asyncio.run(
        DirectorRenderer(director, files, PipelineConfig()).render(pairs[0], names[0])
    )  # killed before it was recorded
    with path.open("a") as file:
        file.write('{"line": 1, "out')  # while this was being written
    reports = _run(director, files, BatchLimits(2, 60), pairs)
    assert [reports[line]["job_id"] for line in (1, 2)] == names == list(director.jobs)
    assert len(path.read_text().splitlines()) == 3


def test_cancelled_jobs_are_started_again(files: FileStore, tmp_path: Path) -> None:
    pairs, director = _pairs(tmp_path, b"endless"), LocalDirector(files)
    with open_record(tmp_path / "results.jsonl") as record:
        name = record.name(pairs[0])

    async def stop_in_the_middle() -> None:
        task = asyncio.create_task(DirectorRenderer(director, files, PipelineConfig()).render(pairs[0], name))
        while not director.jobs:  # noqa: ASYNC110  # the jobs of a real Director say nothing either
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(stop_in_the_middle())
    reports = _run(director, files, BatchLimits(1, 60), _pairs(tmp_path, b"speech"))
    assert reports[1]["status"] == "succeeded"
    assert [job.status.value for job in director.jobs.values()] == ["cancelled", "succeeded"]


def test_two_batches_do_not_share_a_record(tmp_path: Path) -> None:
    with (
        open_record(tmp_path / "results.jsonl"),
        pytest.raises(StateError, match="another batch uses"),
        open_record(tmp_path / "results.jsonl"),
    ):
        pass
    (tmp_path / "video.jsonl").write_text('{"video": "a.mp4"}\n')
    with pytest.raises(InputError, match="record of a batch"), open_record(tmp_path / "video.jsonl"):
        pass


def test_files_are_read_and_written_by_url(files: FileStore, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe({"/in/face.mp4": b"face", "/in/a.wav": b"from afar"})
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(
        '{"video": "memory://in/face.mp4", "audio": "memory://in/a.wav", "out": "memory://out/a.mp4"}\n'
        '{"video": "memory://in/face.mp4", "audio": "memory://in/none.wav", "out": "b.mp4"}\n'
        '{"video": "nosuch://in/face.mp4", "audio": "memory://in/a.wav", "out": "c.mp4"}\n'
    )
    pairs = read_manifest(manifest)
    reports = _run(LocalDirector(files), files, BatchLimits(2, 60), pairs)
    assert memory.cat("/out/a.mp4") == b"from afar"
    assert [reports[line]["status"] for line in (1, 2, 3)] == ["succeeded", "failed", "failed"]
    assert reports[2]["error"]["code"] == "file_error"
    assert "nosuch" in reports[3]["error"]["message"]
    assert set(_run(LocalDirector(files), files, BatchLimits(2, 60), pairs)) == set()


def test_a_batch_imports_nothing_from_the_working_directory(tmp_path: Path, repo_root: Path) -> None:
    folder = make_hostile_folder(tmp_path / "cwd")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, "-m", "cluster.batch", "--help"],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert imported_modules(folder) == []
