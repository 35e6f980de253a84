"""Manifests, and batches over HTTP with a service that keeps its jobs in this process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from cluster.batch_record import open_record
from cluster.batch_run import BATCH_RETRY, Batch, BatchLimits
from cluster.manifest import Pair, read_manifest
from lipwright.errors import (
    CapacityError,
    FaceNotFoundError,
    InputError,
    LipwrightError,
    ReplicaLostError,
    StageTimeoutError,
    StateError,
    TableUnreachableError,
)
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.model.turns import SpeakerChoice, Turn
from lipwright.jobs.requests import RequestContext
from lipwright.storage.file_keys import job_file_key, result_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.sqlite.database import Database
from lipwright_client import AsyncLipwright
from tests.hostile_folder import imported_modules, make_hostile_folder
from tests.unit.api_server import MemoryService, serving
from tests.unit.on_disk import on_disk
from tests.unit.quality_report import example_report
from tests.waiting import until

_REPORT_OF_VIDEO = example_report()


class LocalDirector(MemoryService):
    """A job's result is its speech, text or subtitles; `silent` speech fails; `endless` speech never ends."""

    is_quick = False
    """Whether endless speech ends, too."""
    max_unfinished = 0
    num_awaited = 0
    """No job ends before so many were there at once."""

    def __init__(self, files: FileStore) -> None:
        super().__init__(files.root)
        self.outages: list[LipwrightError] = []
        """Errors of the next calls that wait for a job."""

    @property
    def jobs(self) -> dict[str, JobRecord]:
        table = JobTable(Database(self.files.table_path))  # `serving` closes its own
        try:
            return {request.job_id: table.get_job(request.job_id) for request in self.requests}
        finally:
            table.close()

    async def submit(self, spec: JobSpec, context: RequestContext) -> JobRecord:
        job = await super().submit(spec, context)
        if spec.video is not None:
            self.files.delete_upload(spec.video.key)
        self.max_unfinished = max(self.max_unfinished, self.table.count_jobs(JobStatus.QUEUED))
        return job

    async def wait_job(self, job_id: str, version: int, timeout_s: float) -> JobRecord:
        if self.outages:
            raise self.outages.pop(0)
        spec = self.table.get_job(job_id).spec
        file = on_disk(self.files, job_file_key(job_id, "subtitles" if spec.subtitles else "audio"))
        speech = (spec.text or "").encode() or file.read_bytes()
        if speech == b"endless" and not self.is_quick:
            return await super().wait_job(job_id, version, timeout_s)
        await asyncio.sleep(0.01)
        await until(lambda: self.max_unfinished >= self.num_awaited)
        if speech == b"silent":
            return self.fail(job_id, FaceNotFoundError("no face"))
        self.report = _REPORT_OF_VIDEO
        job = self.finish(job_id)
        on_disk(self.files, result_key(job_id)).write_bytes(speech)
        return job


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "data")


def _pair(folder: Path, line: int, **fields: Any) -> Pair:
    """A line of the manifest; None leaves a field out."""
    standard = {"video": folder / "face.mp4", "audio": folder / f"{line}.wav", "out": folder / "out" / f"{line}.mp4"}
    return Pair.of({**standard, **fields}, line)


def _pairs(folder: Path, *speeches: bytes) -> list[Pair]:
    (folder / "face.mp4").write_bytes(b"face")
    for line, speech in enumerate(speeches, start=1):
        (folder / f"{line}.wav").write_bytes(speech)
    return [_pair(folder, line) for line in range(1, len(speeches) + 1)]


Reports = dict[int, dict[str, Any]]


def _run(director: LocalDirector, files: FileStore, limits: BatchLimits, pairs: list[Pair]) -> Reports:
    """The reports of what is not done yet, by the manifest's line; the record lies beside the data folder."""

    async def collect(url: str) -> Reports:
        with open_record(files.root.parent / "results.jsonl") as record:
            async with AsyncLipwright(url, retry=BATCH_RETRY) as client:
                rest = [pair for pair in pairs if record.done(pair) is None]
                return {report["line"]: report async for report in Batch(client, record, limits).run(rest)}

    with serving(director) as url:
        return asyncio.run(collect(url))


def test_results_arrive_and_failures_are_reported(
    files: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BadStatusError(Exception):
        pass

    def open_location(location: Path) -> BinaryIO:
        if location.name == "5.wav":
            raise BadStatusError("503")
        return location.open("rb")

    monkeypatch.setattr("cluster.batch_run.open_location", open_location)
    pairs = _pairs(tmp_path, b"one", b"silent", b"three", b"gone", b"far away")
    (tmp_path / "4.wav").unlink()
    reports = _run(LocalDirector(files), files, BatchLimits(2, 60), pairs)
    assert [reports[line]["status"] for line in (1, 2, 3)] == ["succeeded", "failed", "succeeded"]
    assert [reports[line]["error"]["code"] for line in (2, 4)] == ["face_not_found", "file_error"]
    assert reports[5]["error"] == {"code": "file_error", "message": "BadStatusError: 503", "retryable": True}
    assert list((tmp_path / "data" / "uploads").iterdir()) == []
    assert [reports[line]["quality"] for line in (1, 2)] == [_REPORT_OF_VIDEO, None]
    assert (tmp_path / "out" / "1.mp4").read_bytes() == b"one"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.mp4", "3.mp4"]


def test_files_and_options_of_pairs_reach_the_director(files: FileStore, tmp_path: Path) -> None:
    _pairs(tmp_path, b"speech", b"another speech")
    (tmp_path / "a.rttm").write_text("SPEAKER a 1 0.5 1.5 <NA> <NA> Anna <NA> <NA>\n")
    (tmp_path / "de.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nANNA: Hallo\n")
    turns = (Turn(start=0, face="0"), Turn(start=1, face="1", audio="audio_bob"))
    speakers = {"Anna": SpeakerChoice(face="1")}
    sounds: dict[str, Any] = {"music": tmp_path / "1.wav", "music_gain_db": -6.0, "idle_mouths": "closed"}
    pairs = [
        _pair(tmp_path, 1, audio=None, text="Good morning.", voice="nova"),
        _pair(tmp_path, 2, audio=None, subtitles=tmp_path / "de.srt", speakers=speakers),
        _pair(tmp_path, 3, audio=tmp_path / "1.wav", turns=turns, audio_bob=tmp_path / "2.wav"),
        _pair(tmp_path, 4, audio=tmp_path / "1.wav", diarization=tmp_path / "a.rttm", speakers=speakers, **sounds),
    ]
    director = LocalDirector(files)
    reports = _run(director, files, BatchLimits(1, 60), pairs)
    assert [report["status"] for report in reports.values()] == ["succeeded"] * 4, reports
    assert (tmp_path / "out" / "1.mp4").read_bytes() == b"Good morning."
    text, subtitles, several, diarized = director.requests
    assert (text.text, text.voice, subtitles.speakers, diarized.speakers) == (
        "Good morning.",
        "nova",
        speakers,
        speakers,
    )
    spoken = [(turn.start, turn.face, turn.audio) for turn in several.options.turns or ()]
    assert spoken == [(0, "0", "audio"), (1, "1", "audio_bob")]
    assert (diarized.options.idle_mouths, diarized.options.music_gain_db) == ("closed", -6)
    for job, field, content in (
        (subtitles, "subtitles", b"1\n00:00:01"),
        (several, "audio_bob", b"another speech"),
        (diarized, "diarization", b"SPEAKER a 1"),
        (diarized, "music", b"speech"),
    ):
        assert on_disk(files, job_file_key(job.job_id, field)).read_bytes().startswith(content)
    assert not list(on_disk(files, "uploads").glob("*")), "no upload is left"


def test_full_service_or_unreachable_database_is_asked_again(files: FileStore, tmp_path: Path) -> None:
    director = LocalDirector(files)
    director.num_awaited = 2
    director.refusals = [CapacityError("full", 0.01) for _ in range(3)]
    director.outages = [TableUnreachableError("no answer") for _ in range(3)]
    reports = _run(director, files, BatchLimits(2, 60), _pairs(tmp_path, *[b"speech"] * 7))
    assert {report["status"] for report in reports.values()} == {"succeeded"}
    assert (director.refusals, director.outages, len(director.jobs)) == ([], [], 7)
    assert director.max_unfinished == 2, "at most two are in flight"


def test_jobs_of_a_batch_outlive_a_lost_director(
    files: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call waits 40 s for a replacement, so ten calls of each kind stand for more than a quarter of an hour."""
    for delay in ("_MIN_DELAY_S", "_MAX_DELAY_S", "_DEFAULT_RETRY_S"):
        monkeypatch.setattr(f"lipwright_client.retry.{delay}", 0.01)
    director = LocalDirector(files)
    lost: list[LipwrightError] = [StageTimeoutError("no answer"), ReplicaLostError("lost")]
    director.refusals, director.outages = lost * 10, lost * 10
    reports = _run(director, files, BatchLimits(2, 60), _pairs(tmp_path, b"one", b"two"))
    assert [report["status"] for report in reports.values()] == ["succeeded"] * 2, reports
    assert (director.refusals, director.outages, len(director.jobs)) == ([], [], 2)


def test_a_pair_that_never_ends_is_cancelled(files: FileStore, tmp_path: Path) -> None:
    director = LocalDirector(files)
    reports = _run(director, files, BatchLimits(2, 2), _pairs(tmp_path, b"endless", b"speech"))
    assert reports[1]["error"]["code"] == "stage_timeout"
    assert reports[2]["status"] == "succeeded"
    assert sorted(job.status.value for job in director.jobs.values()) == ["cancelled", "succeeded"]


def test_what_is_done_is_not_done_again(files: FileStore, tmp_path: Path) -> None:
    pairs = _pairs(tmp_path, b"one", b"silent", b"three")
    limits = BatchLimits(2, 60)
    assert len(_run(LocalDirector(files), files, limits, pairs)) == 3
    assert _run(LocalDirector(files), files, limits, pairs) == {}, "a failure of the caller's is final"
    assert isinstance(pairs[2].out, Path)
    pairs[2].out.unlink()
    (tmp_path / "4.wav").write_bytes(b"four")
    pairs.insert(0, _pair(tmp_path, 4, out=tmp_path / "4.mp4"))
    assert set(_run(LocalDirector(files), files, limits, pairs)) == {3, 4}
    assert (tmp_path / "out" / "3.mp4").read_bytes() == b"three"


def test_a_killed_batch_goes_on_with_the_jobs_that_it_began(files: FileStore, tmp_path: Path) -> None:
    path, limits = tmp_path / "results.jsonl", BatchLimits(2, 60)
    before = _run(LocalDirector(files), files, limits, _pairs(tmp_path, b"one"))
    first, *_ = path.read_text().splitlines(keepends=True)
    path.write_text(first + '{"line": 1, "out')  # killed while the report was being written
    director = LocalDirector(files)
    reports = _run(director, files, limits, _pairs(tmp_path, b"one", b"two"))
    assert reports[1]["job_id"] == before[1]["job_id"]
    assert list(director.jobs) == [reports[2]["job_id"]]
    assert len(path.read_text().splitlines()) == 3


def test_jobs_of_a_stopped_batch_are_cancelled_and_started_again(files: FileStore, tmp_path: Path) -> None:
    director, pairs = LocalDirector(files), _pairs(tmp_path, b"endless")

    async def stop_in_the_middle(url: str) -> None:
        with open_record(tmp_path / "results.jsonl") as record:
            async with AsyncLipwright(url) as client:
                reports = Batch(client, record, BatchLimits(1, 60)).run(pairs)
                task = asyncio.ensure_future(anext(reports))
                await until(lambda: director.jobs)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    with serving(director) as url:
        asyncio.run(stop_in_the_middle(url))
        assert [job.status.value for job in director.jobs.values()] == ["cancelled"]
    again = LocalDirector(files)
    again.is_quick = True
    assert _run(again, files, BatchLimits(1, 60), pairs)[1]["status"] == "succeeded"
    assert len(again.jobs) == 1


def test_two_batches_do_not_share_a_record(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with open_record(path), pytest.raises(StateError, match="another batch uses"), open_record(path):
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
    variables = {**os.environ, "PYTHONPATH": str(repo_root)}
    variables.pop("PYTHONSAFEPATH", None)
    command = [sys.executable, "-m", "cluster.batch", "--help"]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert imported_modules(folder) == []


_LINE: dict[str, Any] = {
    **{"video": "a.mp4", "audio": "s.wav", "audio_b": "t.wav", "out": "o.mp4", "size": "1080x1920", "fps": 30},
    **{"quality": "best", "visible_label": True, "expressiveness": 1.5, "motion": 0.5, "background": "#00ff00"},
    **{"music": "m.wav", "music_gain_db": -10, "loudness_lufs": -16, "background_gain_db": -3, "idle_mouths": "closed"},
    **{"face_image": "who.png", "metadata": {"order": "17"}, "engine": "warp"},
    "turns": [{"face": "person:1", "start": 0, "gain_db": 3}, {"face": "person:2", "start": 1, "audio": "audio_b"}],
}
_REPORT = {"line": 1, "status": "failed", "error": {"code": "media_invalid", "retryable": False}}


def _reversed(value: Any) -> Any:
    """Return a JSON value with the fields of all objects in the opposite order."""
    if isinstance(value, dict):
        return {name: _reversed(value[name]) for name in reversed(value)}
    return [_reversed(each) for each in value] if isinstance(value, list) else value


def _key(path: Path, line: dict[str, Any]) -> str:
    with open_record(path) as record:
        record.add(Pair.of(line), _REPORT)
    return str(json.loads(path.read_text().splitlines()[-1])["pair"])


@pytest.mark.parametrize("name", sorted(_LINE.keys() - {"video", "audio", "audio_b", "out", "turns"}))
def test_pair_key_depends_on_each_option(tmp_path: Path, name: str) -> None:
    removed = {name, "music_gain_db"} if name == "music" else {name}
    others = {key: value for key, value in _LINE.items() if key not in removed}
    assert _key(tmp_path / "a", _LINE) != _key(tmp_path / "b", others)


def test_pair_key_depends_on_turns_and_not_on_order(tmp_path: Path) -> None:
    assert _key(tmp_path / "a", _LINE) == _key(tmp_path / "b", _reversed(_LINE))
    assert _key(tmp_path / "a", _LINE) != _key(tmp_path / "c", _LINE | {"turns": _LINE["turns"][::-1]})


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.mp4", "a.wav", "b.wav", "a.rttm"):
        (folder / name).write_bytes(b"content is not read here")
    return folder


def _write(folder: Path, *lines: object) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


GOOD = {"video": "a.mp4", "audio": "a.wav", "out": "a_out.mp4"}
TEXT = {"video": "a.mp4", "text": "Good morning.\n早上好。", "voice": "af_heart", "out": "text.mp4"}
TURNS = {
    **{"video": "a.mp4", "audio": "a.wav", "audio_bob": "b.wav", "out": "turns.mp4"},
    "turns": [{"start": 0, "face": "0"}, {"start": 1.5, "face": "1", "audio": "audio_bob"}],
}
DIARIZED = GOOD | {"diarization": "a.rttm", "speakers": {"A": {"face": "1"}}, "out": "diarized.mp4"}


def test_read_manifest_resolves_paths_and_counts_lines(inputs: Path, tmp_path: Path) -> None:
    manifest = _write(inputs, GOOD, "", GOOD | {"out": "b/b.mp4", "loop": "hold"}, TEXT, TURNS, DIARIZED)
    first, second, text, turns, diarized = read_manifest(manifest, tmp_path / "results")
    assert (first.line, second.line) == (1, 3)
    assert first.inputs["video"] == inputs / "a.mp4"
    assert second.out == tmp_path / "results" / "b" / "b.mp4"
    assert second.options == {"loop": "hold"}
    assert read_manifest(manifest)[0].out == inputs / "a_out.mp4"
    assert (first.inputs["audio"], first.options) == (inputs / "a.wav", {})
    assert (list(text.inputs), text.options) == (["video"], {"text": TEXT["text"], "voice": "af_heart"})
    files = {"video": inputs / "a.mp4", "audio": inputs / "a.wav"}
    assert (turns.inputs, turns.options) == (files | {"audio_bob": inputs / "b.wav"}, {"turns": TURNS["turns"]})
    assert diarized.inputs == files | {"diarization": inputs / "a.rttm"}
    assert diarized.options == {"speakers": {"A": {"face": "1"}}}


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\x0c"])
def test_manifest_and_record_lines_end_at_newlines_only(inputs: Path, tmp_path: Path, character: str) -> None:
    text = f"Good{character}morning."
    (pair,) = read_manifest(_write(inputs, json.dumps(TEXT | {"text": text}, ensure_ascii=character == "\x0c")))
    (inputs / "table.csv").write_text(f"video,text,out\r\na.mp4,{text},a_out.mp4\r\n")
    assert [each.options["text"] for each in (pair, *read_manifest(inputs / "table.csv"))] == [text, text]
    for _ in range(2):
        with open_record(tmp_path / "record.jsonl") as record:
            record.add(pair, {"line": 1, "out": "a.mp4", "status": "failed", "error": {"message": text}})


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{not json", "Invalid JSON"),
        ("[]", "expected a JSON object"),
        (GOOD | {"out": "first.mp4"}, "first.mp4 is also the result of line 1"),
        ({"video": "a.mp4", "audio": "a.wav"}, "out: is required"),
        (GOOD | {"vidoe": "b.mp4"}, "vidoe: unknown field"),
        (GOOD | {"audio": "missing.wav"}, "does not exist or is not a file"),
        (GOOD | {"text": "Good morning."}, "send audio or text, not both"),
        ({"video": "a.mp4", "out": "b.mp4"}, "audio or text is required"),
        (TEXT | {"video": "missing.mp4"}, "does not exist or is not a file"),
        (TEXT | {"text": "x" * 32_769}, "text: must have at most 32768 characters"),
        (GOOD | {"out": "a.avi"}, "expected a name that ends in .mp4"),
        (TURNS | {"audio_bob": "missing.wav"}, "audio_bob: "),
        (TURNS | {"audio_bob": 3}, "audio_bob: expected a path or a URL, found 3"),
        (TURNS | {"more_audio": {"audio_bob": "b.wav"}}, "more_audio: unknown field"),
        (TURNS | {"turns": [{"start": -1}]}, "turns.0.start: must be greater than or equal to 0"),
        (GOOD | {"review": True}, "review: unknown field"),
        (GOOD | {"loop": "x"}, "loop: must be 'pingpong', 'loop', 'hold', 'cut', 'source', 'retime' or 'natural'"),
    ],
)
def test_read_manifest_invalid_lines_are_named(inputs: Path, line: object, complaint: str) -> None:
    manifest = _write(inputs, GOOD | {"out": "first.mp4"}, line, GOOD | {"out": "third.mp4"}, "[]")
    with pytest.raises(InputError) as raised:
        read_manifest(manifest)
    found = [text.removeprefix(f"{manifest}:") for text in str(raised.value).splitlines()]
    assert [text.partition(": ")[0] for text in found] == ["2", "4"]
    assert complaint in found[0]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_read_manifest_csv_rows_are_pairs(inputs: Path, delimiter: str) -> None:
    rows = [
        ("video", "audio", "text", "out", "expressiveness", "visible_label", "audio_bob", "turns"),
        ("a.mp4", "", '"Good\nmorning"', "one.mp4", "1.5", "true", "", ""),
        ("", "", "", "", "", "", "", ""),
        ("a.mp4", "", "", "two.mp4", "", "", "b.wav", '"[{""start"": 0, ""audio"": ""audio_bob""}]"'),
    ]
    text = "\n".join(delimiter.join(row) for row in rows)
    (inputs / "m.csv").write_bytes(text.encode("utf-8-sig"))  # as spreadsheets write it
    first, second = read_manifest(inputs / "m.csv")
    asked = first.asked
    assert (first.line, asked.text, asked.expressiveness, asked.visible_label) == (2, "Good\nmorning", 1.5, True)
    assert "loop" not in first.options
    assert (second.line, second.more_audio) == (5, {"audio_bob": inputs / "b.wav"})
    assert [turn.audio for turn in second.asked.turns or ()] == ["audio_bob"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "video,sound,out\na.mp4,a.wav,x.mp4", "m.csv:1: unknown column 'sound'; expected action, audio, "),
        ("m.csv", "video,audio,out\na.mp4,a.wav,x.mp4,y", "m.csv:2: has more cells than the header"),
        ("m.csv", "video,audio,out\na.mp4,a.wav,", "m.csv:2: out: is required"),
        ("m.csv", "video,turns,out\na.mp4,[,x.mp4", "m.csv:2: Expecting value"),
        ("m.csv", "video,audio,out\na.mp4,a.wav,x.mp4\na.mp4,no.wav,y.mp4", "m.csv:3: audio: "),
        ("m.jsonl", "\n", "m.jsonl: expected at least one line"),
        ("m.txt", "video,audio,out\na.mp4,a.wav,x.mp4", "m.txt: expected JSON lines; a table with a header needs"),
    ],
)
def test_read_manifest_invalid_file_names_row_and_reason(inputs: Path, name: str, text: str, message: str) -> None:
    (inputs / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_manifest(inputs / name)
    assert str(inputs / message) in str(caught.value)
