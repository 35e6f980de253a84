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
from errors import CapacityError, FaceNotFoundError, InputError, StateError
from jobs.job_request import JobRequest
from storage.file_keys import audio_key, result_key
from storage.records import JobQuery, JobRecord, JobSummary, Turn
from tests.hostile_folder import imported_modules, make_hostile_folder
from tests.unit.api.tts.speech_server import speaking, tone
from tests.unit.api_server import MemoryService
from tests.unit.on_disk import on_disk


class LocalService(MemoryService):
    """A job's result is its speech; `silent` speech fails; `endless` speech never ends."""

    max_unfinished = 0
    num_awaited = 0  # no job ends before so many were there at once

    async def submit(self, request: JobRequest) -> JobRecord:
        if self.num_refusals:
            self.num_refusals -= 1
            raise CapacityError("full", 0.01)
        job = await super().submit(request)
        for name, file in request.more_audio.items():
            self.files.take_upload(file.key, audio_key(job.id, name))
        assert request.video is not None
        self.files.delete_upload(request.video.key)
        self.max_unfinished = max(self.max_unfinished, len(self.table.unfinished_jobs()))
        return job

    async def wait_job(self, job_id: str, version: int, timeout_s: float) -> JobRecord:
        speech = on_disk(self.files, audio_key(job_id)).read_bytes()
        if speech == b"endless":
            return await super().wait_job(job_id, version, timeout_s)
        while self.max_unfinished < self.num_awaited:  # noqa: ASYNC110  # `submit` may come from any side
            await asyncio.sleep(0.01)
        if speech == b"silent":
            return self.fail(job_id, FaceNotFoundError("no face"))
        self.report = {"warnings": ["as made"]}
        job = self.finish(job_id)
        on_disk(self.files, result_key(job_id)).write_bytes(speech)
        return job

    def jobs(self) -> list[JobSummary]:
        """Return all jobs, the oldest first."""
        return self.table.list_jobs(JobQuery(limit=20)).jobs[::-1]


@pytest.fixture
def service(tmp_path: Path) -> LocalService:
    return LocalService(tmp_path / "data")


def _pairs(folder: Path, *speeches: bytes) -> list[Pair]:
    (folder / "face.mp4").write_bytes(b"face")
    pairs = []
    for line, speech in enumerate(speeches, start=1):
        (folder / f"{line}.wav").write_bytes(speech)
        out = folder / "out" / f"{line}.mp4"
        pairs.append(Pair(line=line, video=folder / "face.mp4", audio=folder / f"{line}.wav", out=out))
    return pairs


def _run(
    service: LocalService, pairs: list[Pair], limits: BatchLimits | None = None, tts: TtsConfig | None = None
) -> dict[int, dict[str, Any]]:
    """The reports of what is not done yet, by the manifest's line; the record lies beside the data folder."""

    async def collect() -> dict[int, dict[str, Any]]:
        with open_record(service.files.table_path.parents[1] / "results.jsonl") as record:
            renderer = DirectorRenderer(service, service.files, PipelineConfig(tts=tts or TtsConfig()))
            batch = Batch(renderer, record, limits or BatchLimits(2, 60))
            rest = [pair for pair in pairs if record.done(pair) is None]
            return {report["line"]: report async for report in batch.run(rest)}

    return asyncio.run(collect())


def test_batch_run_reports_results_and_failures(service: LocalService, tmp_path: Path) -> None:
    reports = _run(service, _pairs(tmp_path, b"one", b"silent", b"three"))
    assert [reports[line]["status"] for line in (1, 2, 3)] == ["succeeded", "failed", "succeeded"]
    assert reports[2]["error"]["code"] == "face_not_found"
    assert [reports[line]["quality"] for line in (1, 2)] == [{"warnings": ["as made"]}, None]
    assert (tmp_path / "out" / "1.mp4").read_bytes() == b"one"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.mp4", "3.mp4"]


def test_batch_run_texts_are_spoken_once(service: LocalService, tmp_path: Path) -> None:
    (first,) = _pairs(tmp_path, b"speech")
    texts = [f"Good morning {number}." for number in range(5)]
    pairs = [
        first.model_copy(update={"line": line, "audio": None, "text": text, "out": tmp_path / f"{line}.mp4"})
        for line, text in enumerate(texts, start=1)
    ]
    with speaking() as voice:
        tts = TtsConfig(url=voice.url, voice="af_heart", max_concurrent=1)
        reports = _run(service, pairs, BatchLimits(5, 60), tts)
    assert {report["status"] for report in reports.values()} == {"succeeded"}, reports
    assert sorted((asked["input"], asked["voice"]) for asked in voice.asked) == [(text, "af_heart") for text in texts]
    assert (tmp_path / "5.mp4").read_bytes() == tone()
    assert _run(service, pairs, tts=tts) == {}
    other = pairs[0].model_copy(update={"text": "Another text."})
    (refused,) = _run(service, [other], tts=TtsConfig(use_builtin=False)).values()
    assert "this service has no voice" in refused["error"]["message"]


def test_batch_run_subtitles_are_spoken(service: LocalService, tmp_path: Path) -> None:
    (first,) = _pairs(tmp_path, b"speech")
    (tmp_path / "de.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nANNA: Hallo\n")
    speakers = {"anna": SpeakerChoice(face="1", voice="nova")}
    pair = first.model_copy(update={"audio": None, "subtitles": tmp_path / "de.srt", "speakers": speakers})
    with speaking() as voice:
        (report,) = _run(service, [pair], tts=TtsConfig(url=voice.url)).values()
    assert report["status"] == "succeeded", report
    assert [(asked["input"], asked["voice"]) for asked in voice.asked] == [("Hallo", "nova")]
    other = pair.model_copy(update={"speakers": {"bob": SpeakerChoice(face="1")}})
    (refused,) = _run(service, [other]).values()
    assert "no speaker 'bob'" in refused["error"]["message"]


def test_batch_run_turns_and_diarization_are_rendered(service: LocalService, tmp_path: Path) -> None:
    first, second = _pairs(tmp_path, b"speech", b"another speech")
    turns = (Turn(start=0, face="0"), Turn(start=1, face="1", audio="audio_bob"))
    with_turns = first.model_copy(update={"turns": turns, "more_audio": {"audio_bob": tmp_path / "2.wav"}})
    (tmp_path / "a.rttm").write_text("SPEAKER a 1 0.5 1.5 <NA> <NA> Anna <NA> <NA>\n")
    speakers = {"Anna": SpeakerChoice(face="1")}
    sounds = {"music": tmp_path / "1.wav", "music_gain_db": -6.0, "idle_mouths": "closed"}
    diarized = second.model_copy(update={"diarization": tmp_path / "a.rttm", "speakers": speakers, **sounds})
    reports = _run(service, [with_turns, diarized], BatchLimits(1, 60))
    assert [reports[line]["status"] for line in (1, 2)] == ["succeeded", "succeeded"], reports
    one, two = (service.table.get_job(reports[line]["job_id"]) for line in (1, 2))
    assert one.options.turns == turns
    assert on_disk(service.files, audio_key(one.id, "audio_bob")).read_bytes() == b"another speech"
    assert [(turn.face, turn.start, turn.end) for turn in two.options.turns or ()] == [("1", 0.5, 2.0)]
    assert (two.options.idle_mouths, two.options.music_gain_db) == ("closed", -6)
    assert on_disk(service.files, audio_key(two.id, "music")).read_bytes() == b"speech"
    assert not list(on_disk(service.files, "uploads").glob("*")), "no upload is left"
    assert _run(service, [with_turns, diarized]) == {}
    louder = diarized.model_copy(update={"music_gain_db": 0.0})
    assert list(_run(service, [with_turns, louder])) == [2]
    other = with_turns.model_copy(update={"turns": turns[1:]})
    assert list(_run(service, [other, diarized])) == [1]


def test_batch_run_keeps_max_in_flight(service: LocalService, tmp_path: Path) -> None:
    service.num_awaited = 2
    reports = _run(service, _pairs(tmp_path, *[b"speech"] * 7))
    assert {report["status"] for report in reports.values()} == {"succeeded"}
    assert service.max_unfinished == 2


def test_batch_run_full_queue_is_retried(
    service: LocalService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.batch._FULL_S", 0.01)
    service.num_refusals = 3
    assert _run(service, _pairs(tmp_path, b"speech"))[1]["status"] == "succeeded"


def test_batch_run_pair_over_its_timeout_is_cancelled(service: LocalService, tmp_path: Path) -> None:
    pairs = _pairs(tmp_path, b"endless", b"speech")
    reports = _run(service, pairs[1:]) | _run(service, pairs[:1], BatchLimits(2, 0.5))
    assert reports[1]["error"]["code"] == "stage_timeout"
    assert reports[2]["status"] == "succeeded"
    assert sorted(job.status.value for job in service.jobs()) == ["cancelled", "succeeded"]


def test_batch_run_missing_file_fails_its_pair_only(service: LocalService, tmp_path: Path) -> None:
    pairs = _pairs(tmp_path, b"one", b"two")
    (tmp_path / "1.wav").unlink()
    reports = _run(service, pairs)
    assert reports[1]["error"]["code"] == "file_error"
    assert reports[2]["status"] == "succeeded"
    assert list((tmp_path / "data" / "uploads").iterdir()) == []


def test_batch_second_run_renders_missing_jobs(service: LocalService, tmp_path: Path) -> None:
    pairs = _pairs(tmp_path, b"one", b"silent", b"three")
    assert len(_run(service, pairs)) == 3
    assert _run(service, pairs) == {}, "a failure of the caller's is final"
    assert isinstance(pairs[2].out, Path)
    pairs[2].out.unlink()
    (tmp_path / "4.wav").write_bytes(b"four")
    pairs.insert(0, pairs[0].model_copy(update={"line": 4, "audio": tmp_path / "4.wav", "out": tmp_path / "4.mp4"}))
    assert set(_run(service, pairs)) == {3, 4}
    assert (tmp_path / "out" / "3.mp4").read_bytes() == b"three"


def test_batch_run_after_a_kill_continues_its_jobs(service: LocalService, tmp_path: Path) -> None:
    pairs, path = _pairs(tmp_path, b"one", b"two"), tmp_path / "results.jsonl"
    with open_record(path) as record:
        names = [record.name(pair) for pair in pairs]
    asyncio.run(_renderer(service).render(pairs[0], names[0]))  # killed before it was recorded
    with path.open("a") as file:
        file.write('{"line": 1, "out')  # while this was being written
    reports = _run(service, pairs)
    assert [reports[line]["job_id"] for line in (1, 2)] == names == [job.id for job in service.jobs()]
    assert len(path.read_text().splitlines()) == 3


def test_batch_run_cancelled_job_is_started_again(service: LocalService, tmp_path: Path) -> None:
    pairs = _pairs(tmp_path, b"endless")
    with open_record(tmp_path / "results.jsonl") as record:
        name = record.name(pairs[0])

    async def cancel_when_submitted() -> None:
        task = asyncio.create_task(_renderer(service).render(pairs[0], name))
        while not service.requests:  # noqa: ASYNC110  # a real Director does not tell either
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancel_when_submitted())
    assert _run(service, _pairs(tmp_path, b"speech"))[1]["status"] == "succeeded"
    assert [job.status.value for job in service.jobs()] == ["cancelled", "succeeded"]


def _renderer(service: LocalService) -> DirectorRenderer:
    return DirectorRenderer(service, service.files, PipelineConfig())


def test_open_record_in_use_or_foreign_is_refused(tmp_path: Path) -> None:
    with (
        open_record(tmp_path / "results.jsonl"),
        pytest.raises(StateError, match="another batch uses"),
        open_record(tmp_path / "results.jsonl"),
    ):
        pass
    (tmp_path / "video.jsonl").write_text('{"video": "a.mp4"}\n')
    with pytest.raises(InputError, match="record of a batch"), open_record(tmp_path / "video.jsonl"):
        pass


def test_batch_run_reads_and_writes_urls(service: LocalService, tmp_path: Path) -> None:
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
    reports = _run(service, pairs)
    assert memory.cat("/out/a.mp4") == b"from afar"
    assert [reports[line]["status"] for line in (1, 2, 3)] == ["succeeded", "failed", "failed"]
    assert reports[2]["error"]["code"] == "file_error"
    assert "nosuch" in reports[3]["error"]["message"]
    assert _run(service, pairs) == {}


def test_cluster_batch_imports_nothing_from_working_directory(tmp_path: Path, repo_root: Path) -> None:
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
