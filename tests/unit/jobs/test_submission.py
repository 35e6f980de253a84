"""Submissions over a real table and folder: what is sent again after a crash, or by another way, is done once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread, current_thread, main_thread
from typing import Any, Final
from unittest.mock import DEFAULT, AsyncMock, Mock

import pytest

from lipwright.config import LabelsConfig, TtsConfig
from lipwright.errors import (
    KeyReuseError,
    NotFoundError,
    OptionError,
    StageTimeoutError,
    StateError,
    StorageFullError,
    StoredFileError,
)
from lipwright.jobs.admission import AdmitRequest
from lipwright.jobs.director import JobDirector
from lipwright.jobs.forecast import result_bytes
from lipwright.jobs.key_limits import KeyPolicies, LimitChecks
from lipwright.jobs.messages import OutputInfo, OutputPicture
from lipwright.jobs.model.base import ErrorRecord, new_id
from lipwright.jobs.model.plan import MUSIC
from lipwright.jobs.model.record import JobQuery, JobRecord, JobStatus
from lipwright.jobs.model.turns import Turn
from lipwright.jobs.requests import AvatarChangeForm, AvatarForm, RequestContext
from lipwright.jobs.scheduler import JobScheduler
from lipwright.jobs.usage import StoredBytes
from lipwright.media.playback import LoopMode
from lipwright.speech.limits import check_texts
from lipwright.storage.file_keys import face_key, job_file_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.local.api_keys import FileKeyRing
from lipwright.storage.local.folder import LocalFiles
from lipwright.storage.row_codec import AvatarRecord
from lipwright.telemetry.log_context import CallContext, call_context
from lipwright.telemetry.trace_context import TraceContext
from models.clips.graph import OWN
from tests.unit.job_records import job_record
from tests.unit.jobs.job_bench import CONFIG, JobBench
from tests.unit.jobs.no_stages import NoStages
from tests.unit.jobs.test_run import VIDEO
from tests.unit.jobs.test_speaking import SpeakingStages, TwoPeople
from tests.unit.on_disk import on_disk


class Bench(JobBench):
    """A job has a film, a picture of the person and speech."""

    sent = {"audio": b"sound", "video": b"film", "face_image": b"picture"}

    def __init__(self, files: FileStore, table: JobTable, labels: LabelsConfig | None = None) -> None:
        self.stages = SpeakingStages(files)
        self.stages.video = VIDEO
        config = CONFIG.model_copy(update={"labels": labels or LabelsConfig()})
        super().__init__(files, table, self.stages, config, people=TwoPeople)
        self.avatar_submissions = self.services.avatar_submissions
        self.backgrounds = self.avatar_submissions.backgrounds

    def avatar_form(self, video: bytes = b"film", **fields: Any) -> AvatarForm:
        return AvatarForm(video=self.upload(video), **self.uploaded(fields))

    async def avatar(self, video: bytes = b"film", owner: str | None = None, **fields: Any) -> AvatarRecord:
        return await self.avatar_submissions.create(self.avatar_form(video, **fields), owner)

    async def change(self, avatar: AvatarRecord, owner: str | None = None, **fields: Any) -> AvatarRecord:
        return await self.avatar_submissions.change(avatar.id, AvatarChangeForm(**fields), owner)

    async def job_of(self, avatar: AvatarRecord, owner: str | None = None, **fields: Any) -> JobRecord:
        """A job that animates an avatar."""
        context = RequestContext(owner=owner)
        return await self.create(context, **{"video": None, "face_image": None, "avatar_id": avatar.id, **fields})

    def uploads(self) -> list[Path]:
        return list((self.files.root / "uploads").iterdir())


@pytest.fixture
def bench(files: FileStore, table: JobTable) -> Bench:
    return Bench(files, table)


async def test_create_job_after_crash_succeeds(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    insert = Mock(wraps=bench.table.insert_job, side_effect=[SystemExit, DEFAULT])
    monkeypatch.setattr(bench.table, "insert_job", insert)
    admission = bench.admission
    place = admission.admit(AdmitRequest(num_bytes=1, max_bytes=1, is_job=True))
    spec, context = bench.spec(background_file=b"beach"), RequestContext(admission_id=place.id)
    with pytest.raises(SystemExit):
        await bench.submissions.create_job(spec, context)
    assert admission.holds(place.id)
    job = await bench.submissions.create_job(spec, context)
    assert not admission.holds(place.id), "it is released with the row"
    assert job.id == context.job_id
    keys = (job_file_key(job.id), face_key(job.avatar_key), job_file_key(job.id, "background"))
    assert [on_disk(bench.files, key).read_bytes() for key in keys] == [b"sound", b"picture", b"beach"]
    assert bench.uploads() == []
    assert bench.stages.probed[-1].endswith("/background"), "it is where the first attempt has moved it"
    stored = bench.table.get_job(job.id, None)
    assert stored.plan.background_file == spec.background_file and stored.plan.has_background


@pytest.mark.parametrize(("loop", "seconds"), [("pingpong", 2.0), ("source", 8.0), ("cut", 2.0), ("retime", 2.0)])
async def test_create_job_counts_the_length_of_its_result(bench: Bench, loop: LoopMode, seconds: float) -> None:
    bench.stages.video = replace(VIDEO, num_frames=200, duration_seconds=8.0)
    job = await bench.create(loop=loop)
    assert (job.audio_seconds, job.result_seconds) == (2.0, seconds)
    assert job.disk_bytes == result_bytes(OutputPicture.of(job.options, VIDEO), seconds)
    for fps in (12.0, 29.97, 60.0):
        job = await bench.create(loop=loop, fps=fps)
        assert abs(job.result_seconds - seconds) < 1 / fps
    bench.stages.video = replace(VIDEO, num_frames=60, duration_seconds=2.4, has_audio=False)
    job = await bench.create(loop="retime", max_audio_stretch=1.25)
    assert job.options.audio_speed == pytest.approx(2.0 / 2.4)
    assert job.audio_seconds == pytest.approx(2.4) and job.result_seconds == 2.4
    with pytest.raises(OptionError, match="background_gain_db: the video has no sound"):
        await bench.create(background_gain_db=-6.0)


async def test_create_job_with_music_stores_it_and_no_turn_plays_it(bench: Bench) -> None:
    bench.stages.video = replace(VIDEO, num_frames=200, duration_seconds=8.0)
    with pytest.raises(OptionError, match="there is no file 'music'. Files that were sent: audio"):
        await bench.create(turns=[Turn(start=1, audio="music")], music=b"song")
    job = await bench.create(turns=[Turn(start=1, audio="audio")], music=b"song")
    assert bench.files.has(job_file_key(job.id, "music"))
    made = OutputInfo.of(job, 200)
    assert (made.music, made.sound.music_gain_db) == (job_file_key(job.id, "music"), -12.0)


@pytest.mark.parametrize("is_marked", [False, True])
async def test_create_job_sets_configured_marks(files: FileStore, table: JobTable, is_marked: bool) -> None:
    bench = Bench(files, table, LabelsConfig(invisible=is_marked))
    job = await bench.create()
    assert job.watermark_id == (job.produce_id[:16] if is_marked else None)
    for identifier, num_found in ((job.produce_id[:16], is_marked), ("0" * 16, 0)):
        assert len(bench.table.list_jobs(JobQuery(limit=5, watermark_id=identifier)).jobs) == num_found


async def test_create_job_with_a_used_key_makes_no_other(bench: Bench) -> None:
    def keyed(digest: str) -> RequestContext:
        return RequestContext(idempotency_key="a key", request_digest=digest)

    job, same = [await bench.create(keyed("a" * 64)) for _ in range(2)]
    assert same.id == job.id
    with pytest.raises(KeyReuseError, match=job.id):
        await bench.create(keyed("b" * 64))
    assert bench.uploads() == []
    assert bench.table.find_job(None, "a key") == job


async def test_create_job_stores_the_trace_of_its_request(bench: Bench) -> None:
    first, second = ({"traceparent": f"00-{number * 32}-{number * 16}-01", "tracestate": "a=1"} for number in "12")
    with call_context(CallContext("", trace=TraceContext.parse(**first))):
        job = await bench.create()
    assert bench.table.get_job(job.id).trace == first
    bench.table.update_job(job.id, status=JobStatus.FAILED, error=ErrorRecord.of(StageTimeoutError("too slow")))
    with call_context(CallContext("", trace=TraceContext.parse(**second))):
        again = await bench.submissions.retry_job(bench.table.get_job(job.id), new_id())
    assert again.trace == second
    assert (await bench.create()).trace == {}


async def test_retry_job_of_a_failed_job_copies_its_inputs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    context = RequestContext(idempotency_key="key")
    failed = await bench.create(context, background_file=b"beach", music=b"song")
    with pytest.raises(StateError, match="its status is queued, not failed"):
        await bench.submissions.retry_job(failed, new_id())
    error = ErrorRecord.of(StageTimeoutError("too slow"))
    bench.table.update_job(failed.id, status=JobStatus.FAILED, error=error)
    failed, threads = bench.table.get_job(failed.id), list[Thread]()
    monkeypatch.setattr(bench.admission, "check_disk", lambda _: threads.append(current_thread()))
    again = await bench.submissions.retry_job(failed, new_id())
    assert threads and main_thread() not in threads, "it reads the table"
    assert (again.status, again.error, again.attempts, again.idempotency_key) == (JobStatus.QUEUED, None, 0, None)
    assert (again.options, again.produce_id) == (failed.options, failed.produce_id)
    assert again.watermark_id == failed.watermark_id == failed.produce_id[:16]
    unmarked = failed.model_copy(update={"watermark_id": None})  # made before `labels.invisible` was set
    assert (await bench.submissions.retry_job(unmarked, new_id())).watermark_id == failed.watermark_id
    bench.files.delete_job(failed.id)
    stored = [job_file_key(again.id), job_file_key(again.id, MUSIC), job_file_key(again.id, "background")]
    assert [on_disk(bench.files, key).read_bytes() for key in stored] == [b"sound", b"song", b"beach"]
    with pytest.raises(NotFoundError, match="Submit them again"):
        await bench.submissions.retry_job(failed, new_id())


class CopyingFiles(LocalFiles):
    """Something happens before each copy."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.before_copy: Callable[[], object] = lambda: None

    def copy(self, key: str, target: str) -> None:
        self.before_copy()
        super().copy(key, target)


async def _failed_job(bench: Bench) -> JobRecord:
    job = await bench.create()
    bench.table.update_job(job.id, status=JobStatus.FAILED, error=ErrorRecord.of(StageTimeoutError("too slow")))
    return bench.table.get_job(job.id)


@pytest.mark.parametrize("is_deleted", [True, False])
async def test_retry_job_losing_its_files_reports_the_cause(tmp_path: Path, table: JobTable, is_deleted: bool) -> None:
    stored, loop = CopyingFiles(tmp_path), asyncio.get_running_loop()
    bench = Bench(FileStore(tmp_path, stored), table)
    job, scheduler = await _failed_job(bench), JobScheduler(bench.services)

    def lose() -> None:
        if is_deleted:
            asyncio.run_coroutine_threadsafe(scheduler.delete(job), loop).result(60)
        else:
            bench.files.delete_job(job.id)

    stored.before_copy = lose
    error, text = (NotFoundError, f"There is no job '{job.id}'") if is_deleted else (StoredFileError, "is missing")
    with pytest.raises(error, match=text):
        await bench.submissions.retry_job(job, new_id())


async def test_retry_job_during_a_deletion_never_loses_files(bench: Bench) -> None:
    scheduler = JobScheduler(bench.services)
    for number in range(40):
        job = await _failed_job(bench)

        async def delete(job: JobRecord = job, num_yields: int = number) -> None:
            for _ in range(num_yields):
                await asyncio.sleep(0)
            await scheduler.delete(job)

        retries = [bench.submissions.retry_job(job, new_id()) for _ in range(5)]
        results = await asyncio.gather(*retries, delete(), return_exceptions=True)
        errors = [error for error in results if isinstance(error, BaseException)]
        assert all(isinstance(error, NotFoundError) for error in errors), (number, errors)


async def test_retry_job_with_full_disk_evicts_cached_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    director = JobDirector(CONFIG.model_copy(update={"data_dir": tmp_path}), NoStages(), "", Mock(), {}, lambda job: {})
    evict = AsyncMock(return_value=True)

    async def retry_job(job: JobRecord, job_id: str) -> JobRecord:
        if not evict.await_count:
            raise StorageFullError("The disk is full.")
        return director._table.insert_job(job.model_copy(update={"id": job_id}))

    monkeypatch.setattr(director, "_election", Mock(starts_work=False))
    monkeypatch.setattr(director._space, "_evict_oldest", evict)
    monkeypatch.setattr(director._submissions, "retry_job", retry_job)
    failed, job_id = director._table.insert_job(job_record()), new_id()
    assert (await director.retry_job(failed.id, job_id, None)).id == job_id
    director._table.close()


async def test_stop_finishes_segments_in_progress_before_it_resigns(tmp_path: Path) -> None:
    director = JobDirector(CONFIG.model_copy(update={"data_dir": tmp_path}), NoStages(), "", Mock(), {}, lambda job: {})
    await director.start()
    await director._limiter.acquire("job")
    stopping = asyncio.create_task(director.stop(max_drain_s=60.0))
    await asyncio.sleep(0.05)
    assert director._election.is_leader and not director._election.starts_work
    director._limiter.release("job")
    await stopping


async def test_create_job_with_turns_of_one_person_uses_one_face(bench: Bench) -> None:
    faces = ("person:1", "index:1", "person:0")
    turns = [Turn(start=number / 2, face=face, end=number / 2 + 0.5) for number, face in enumerate(faces)]
    job = await bench.create(turns=turns, face_image=None)
    assert job.options.turns is not None
    assert [turn.face for turn in job.options.turns] == ["person:1", "person:1", "person:0"]
    assert list(job.turn_avatar_keys) == ["person:0", "person:1"]


SUBTITLES = b"1\n00:00:00,500 --> 00:00:01,000\nANNA: Hello\n\n2\n00:00:01,200 --> 00:00:01,900\nBOB: Hi\n"
RTTM = b"SPEAKER a 1 0.5 0.5 <NA> <NA> A <NA> <NA>\nSPEAKER a 1 1.6 0.4 <NA> <NA> B <NA> <NA>\n"
FILM_ONLY: Final[dict[str, Any]] = {"audio": None, "face_image": None}
DIARIZED: Final[dict[str, Any]] = {"audio": b"sound", "diarization": RTTM}


def texts_of_faces(face: str, start: float) -> list[Turn]:
    return [Turn(start=0, face="largest", end=1, text="a"), Turn(start=start, face=face, text="b")]


@pytest.fixture
def dub(bench: Bench) -> Bench:
    """Has a voice with limits, which is not there and so must not be asked."""
    server = TtsConfig(url="http://127.0.0.1:1/v1", max_chars=1000, max_total_chars=2000)
    bench.check_texts(partial(check_texts, server))
    return bench


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"subtitles": SUBTITLES, "speakers": {"Eve": {}}}, "no speaker 'Eve'. Its speakers: ANNA, BOB"),
        ({"subtitles": SUBTITLES * 3000}, "at most 5000 cues, found 6000"),
        ({"subtitles": b"x" * 250_000}, "expected an SRT or WebVTT file"),
        ({"subtitles": b"x" * 2_000_000}, "subtitles: expected at most 1048576 bytes"),
        ({**DIARIZED, "speakers": {"S7": {}}}, "the diarization file has no speaker 'S7'. Its speakers: A, B"),
        ({**DIARIZED, "speakers": {"A": {"voice": "heart"}}}, "voices are for subtitles"),
        ({**DIARIZED, "speakers": {"a": {}, "A": {}}}, "'a' and 'A' are the same name"),
        ({"audio": b"sound", "diarization": b";;\n"}, "no segment"),
        ({"audio": b"sound", "diarization": b"SPEAKER a 1 7 1 <NA> <NA> A <NA> <NA>\n"}, "the video ends at 2 s"),
        ({"turns": [Turn(start=0, audio="audio")]}, "send the audio files"),
        ({"audio": b"sound", "turns": [Turn(start=0, audio="audio_b")]}, r"turns\[0\].audio: there is no file"),
        ({"more_audio": {"audio_synthesized": b"x"}, "turns": [Turn(start=0, text="Hi")]}, "the name is reserved"),
        ({"text": "x" * 1001}, "text: expected at most 1000 characters, found 1001"),
        ({"turns": [Turn(start=each, text="x" * 900) for each in (0, 0.5, 1)]}, "at most 2000 characters in all"),
        ({"turns": texts_of_faces("person:0", 0.5)}, r"turns\[1\] are two turns of face 'largest' and overlap"),
        ({"turns": texts_of_faces("person:2", 1)}, r"turns\[1\].face: expected person:0 to person:1"),
    ],
)
async def test_create_job_with_unusable_texts_is_refused(dub: Bench, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        await dub.create(**FILM_ONLY | fields)
    assert not dub.table.list_jobs(JobQuery(limit=5)).jobs


async def test_create_job_without_a_voice_refuses_texts(dub: Bench) -> None:
    dub.check_texts(partial(check_texts, TtsConfig(use_builtin=False)))
    for fields in ({"text": "Hi."}, {"subtitles": SUBTITLES}, {"turns": [Turn(start=0, text="Hi")]}):
        with pytest.raises(OptionError, match="text: this service has no voice"):
            await dub.create(**FILM_ONLY | fields)
    assert (await dub.create(face_image=None)).plan.is_complete


async def test_create_job_with_subtitles_stores_them_unspoken(dub: Bench) -> None:
    speakers = {"Anna": {"face": "0", "voice": "nova"}}
    job = await dub.create(**FILM_ONLY, subtitles=SUBTITLES, speakers=speakers, voice="echo")
    assert on_disk(dub.files, job_file_key(job.id, "subtitles")).read_bytes() == SUBTITLES
    assert dub.uploads() == []
    assert (job.plan.is_complete, job.plan.needs_faces, job.plan.audio, job.watermark_id) == (False, False, {}, None)
    turns = [(turn.face, turn.speaker, turn.text, turn.voice, turn.start, turn.end) for turn in job.plan.turns]
    assert turns == [("0", "ANNA", "Hello", "nova", 0.5, 1.0), ("speaking", "BOB", "Hi", "echo", 1.2, 1.9)]
    assert job.spec == dub.table.get_job(job.id).spec and job.result_seconds == 2.0


async def test_create_job_with_one_other_file_plays_it_as_audio(dub: Bench) -> None:
    anna: dict[str, Any] = {**FILM_ONLY, "more_audio": {"audio_anna": b"Anna"}}
    job = await dub.create(**anna, turns=[Turn(start=1, audio="audio_anna")])
    assert on_disk(dub.files, job_file_key(job.id)).read_bytes() == b"Anna"
    assert (set(job.plan.audio), job.plan.turns[0].audio, job.plan.is_complete) == ({"audio"}, "audio", True)
    with_text = [Turn(start=0, audio="audio_anna"), Turn(start=0, face="1", text="Hi")]
    job = await dub.create(**anna, turns=with_text)
    assert set(job.plan.audio) == {"audio_anna"}, "`audio` will be the text"
    assert dub.uploads() == []


async def test_create_job_with_a_diarization_is_complete(dub: Bench) -> None:
    job = await dub.create(face_image=None, diarization=RTTM, speakers={"A": {"face": "0"}})
    turns = [(turn.face, turn.speaker, turn.start, turn.audio_start, turn.end) for turn in job.plan.turns]
    assert turns == [("0", "A", 0.5, 0.5, 1.0), ("speaking", "B", 1.6, 1.6, 2.0)]
    assert job.plan.is_complete and job.watermark_id == job.produce_id[:16]


@pytest.mark.parametrize("is_still", [False, True])
async def test_create_job_with_loop_natural_plays_a_composite(bench: Bench, is_still: bool) -> None:
    bench.stages.video = replace(VIDEO, is_still=is_still)
    job = await bench.create(loop="natural")
    composite = bench.table.find_avatar(job.avatar_key)
    assert composite is not None and job.options.loop == "natural"
    assert list(composite.parts) == ([] if is_still else [OWN])


async def test_create_job_without_clips_speaks_brackets(bench: Bench) -> None:
    spoken = list[str]()
    bench.check_texts(spoken.extend)
    await bench.create(audio=None, text="Hi [wave]")
    assert spoken == ["Hi [wave]"]
    with pytest.raises(OptionError, match="actions need an avatar with clips"):
        await bench.create(action="wave")


async def test_create_job_counts_its_files_as_stored_once(bench: Bench, files: FileStore, table: JobTable) -> None:
    ring = FileKeyRing(files.root)
    owner, stored = ring.add("key")[0].id, StoredBytes(table, files)
    bench.admission._checks = LimitChecks(KeyPolicies(ring).limits_of, table, stored)
    job = await bench.create(RequestContext(owner=owner))
    assert (job.stored_bytes, stored.of(owner)) == (len("sound"), len("soundfilmpicture"))
    stored.refresh()
    await bench.create(RequestContext(owner=owner))
    assert stored.of(owner) == len("soundfilmpicture" + "sound"), "the film and the picture are those of the first job"
    table.update_job(job.id, status=JobStatus.FAILED, error=ErrorRecord.of(StageTimeoutError("too slow")))
    again = await bench.submissions.retry_job(table.get_job(job.id), new_id())
    assert again.stored_bytes == len("sound")
