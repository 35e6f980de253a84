"""Submissions over a real table and folder: what is sent again after a crash, or by another way, is done once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread, current_thread, main_thread
from typing import Any, Final
from unittest.mock import DEFAULT, AsyncMock, Mock

import pytest

from config import JobConfig, LabelsConfig, PipelineConfig, TtsConfig
from errors import (
    FaceNotFoundError,
    KeyReuseError,
    NotFoundError,
    OptionError,
    StageTimeoutError,
    StateError,
    StorageFullError,
)
from jobs.admission import AdmissionController, AdmitRequest
from jobs.director import JobDirector
from jobs.forecast import result_bytes
from jobs.messages import OutputInfo, OutputPicture, ProbeResult
from jobs.model.avatar_settings import AvatarSettings
from jobs.model.base import ErrorRecord, UploadedFile, new_id
from jobs.model.clip import AvatarClip
from jobs.model.face_points import FacePoints
from jobs.model.plan import MUSIC
from jobs.model.record import JobQuery, JobRecord, JobStatus
from jobs.model.spec import JobSpec
from jobs.model.turns import Turn
from jobs.requests import AvatarChangeForm, AvatarForm, RequestContext
from jobs.sources.avatars import Avatars
from jobs.sources.clips import composite_key
from jobs.sources.people import People
from jobs.speech_messages import ChosenVoices, VoiceRequest
from jobs.submission import Submissions
from media.playback import LoopMode
from media.probe import AudioInfo, VideoInfo
from models.clips.graph import OWN
from models.face.choice import FaceChoice
from models.people.report import PeopleReport
from models.track.marked_face import MARKS
from speech.limits import check_texts
from storage.file_keys import face_key, job_file_key, source_key
from storage.file_store import FileStore
from storage.job_table import JobTable
from storage.row_codec import AvatarRecord, AvatarStatus
from telemetry.log_context import CallContext, call_context
from telemetry.trace_context import TraceContext
from tests.unit.job_records import avatar_record, job_record, job_services
from tests.unit.jobs.no_stages import NoStages
from tests.unit.jobs.test_run import VIDEO
from tests.unit.on_disk import on_disk

AUDIO = AudioInfo(16000, 1, 2.0, "pcm_s16le")
FILES = {"audio": b"sound", "video": b"film", "face_image": b"picture"}
CONFIG = PipelineConfig(jobs=JobConfig(min_free_bytes=0))


class WillingStages(NoStages):
    """Takes every file that is there."""

    def __init__(self, files: FileStore) -> None:
        self._files = files
        self.video = VIDEO
        self.probed: list[str] = []

    async def probe(self, context: CallContext, video: str | None, audio: str | None) -> ProbeResult:
        assert all(self._files.has(key) for key in (video, audio) if key is not None)
        self.probed.append(video or audio or "")
        return ProbeResult(self.video if video else None, AUDIO if audio else None)

    async def choose_voices(self, context: CallContext, requests: Sequence[VoiceRequest], *_: Any) -> ChosenVoices:
        return ChosenVoices(tuple(request.voice for request in requests), None)


def avatar_request(
    settings: AvatarSettings | None = None, owner: str | None = None, **fields: Any
) -> tuple[AvatarForm, str | None]:
    return AvatarForm(**(settings.model_dump(exclude_unset=True) if settings else {}), **fields), owner


def avatar_change(
    avatar_id: str, settings: AvatarSettings, owner: str | None = None
) -> tuple[str, AvatarChangeForm, str | None]:
    return avatar_id, AvatarChangeForm(**settings.model_dump(exclude_unset=True)), owner


class FilmPeople(People):
    async def known(self, sha256: str, owner: str | None) -> PeopleReport | None:
        return None

    async def resolve(self, sha256: str, owner: str | None, choice: FaceChoice) -> int | None:
        """In the film, `largest` is person 0 and `index:1` person 1; who else there is, is not known."""
        if choice.kind == "person" and choice.numbers[0] > 1:
            raise FaceNotFoundError(f"face: expected person:0 to person:1, found {str(choice)!r}.")
        return {"largest": 0, "index:1": 1, "person:0": 0, "person:1": 1}.get(str(choice))


class Bench:
    def __init__(self, files: FileStore, table: JobTable, labels: LabelsConfig | None = None) -> None:
        self.files, self.table, self.stages = files, table, WillingStages(files)
        config = CONFIG.model_copy(update={"labels": labels or LabelsConfig()})
        avatars = Avatars(config, self.stages, self.table, self.files)
        avatars.people = FilmPeople(config, self.stages, self.table, self.files)
        self.services = job_services(config, self.stages, avatars, self.table, self.files)
        self.avatars = self.services.avatar_submissions
        self.submissions = self.submissions_with()

    def submissions_with(self, check_texts: Callable[[Sequence[str]], None] = lambda texts: None) -> Submissions:
        admission = AdmissionController(self.services.config, self.table, self.files)
        return Submissions(replace(self.services, check_texts=check_texts), admission)

    def upload(self, content: bytes) -> UploadedFile:
        writer = self.files.new_upload("f")
        writer.write(content)
        return writer.finish()

    def spec(self, **fields: Any) -> JobSpec:
        """A job with a film, a picture of the person and speech; None leaves a field out."""
        files = {name: None if name in fields else self.upload(content) for name, content in FILES.items()}
        return JobSpec(**{name: value for name, value in {**files, **fields}.items() if value is not None})

    async def create(self, spec: JobSpec, **context: Any) -> JobRecord:
        return await self.submissions.create_job(spec, RequestContext(**context))

    def uploads(self) -> list[Path]:
        return list((self.files.root / "uploads").iterdir())


@pytest.fixture
def bench(files: FileStore, table: JobTable) -> Bench:
    return Bench(files, table)


async def test_create_job_after_crash_succeeds(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    insert = Mock(wraps=bench.table.insert_job, side_effect=[SystemExit, DEFAULT])
    monkeypatch.setattr(bench.table, "insert_job", insert)
    admission = bench.submissions._admission
    place = admission.admit(AdmitRequest(num_bytes=1, max_bytes=1, is_job=True))
    spec, context = bench.spec(background_file=bench.upload(b"beach")), RequestContext(admission_id=place.id)
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


async def _avatar_job(bench: Bench, avatar: AvatarRecord, owner: str | None = None, **options: Any) -> JobRecord:
    spec = bench.spec(video=None, face_image=None, avatar_id=avatar.id, **options)
    return await bench.create(spec, owner=owner)


async def test_create_job_copies_the_background_of_its_avatar(bench: Bench) -> None:
    video, hold = bench.upload(b"film"), AvatarSettings(background_loop="hold")
    beach = avatar_request(video=video, settings=hold, background_file=bench.upload(b"beach"))
    avatar = await bench.avatars.create(*beach)
    assert avatar.settings.background_loop == "hold"
    job = await _avatar_job(bench, avatar)
    change = avatar_change(avatar_id=avatar.id, settings=AvatarSettings(background="blur", matte="chroma"))
    assert (await bench.avatars.change(*change)).version > avatar.version
    await bench.avatars.backgrounds.delete(avatar.settings.background_id or "", None)
    job = bench.table.get_job(job.id)
    assert job.options.background_id == avatar.settings.background_id and job.options.background_loop == "hold"
    assert job.plan.background_file is not None and job.plan.background_file.label == "f"
    assert on_disk(bench.files, job_file_key(job.id, "background")).read_bytes() == b"beach"
    blurred = await _avatar_job(bench, avatar)
    assert (blurred.options.background, blurred.options.matte) == ("blur", "chroma")
    assert blurred.plan.background_file is None
    other = await _avatar_job(bench, avatar, background="white")
    assert (other.options.background, other.options.matte) == ("#ffffff", "auto")
    assert not (await _avatar_job(bench, avatar, background="source")).plan.has_background
    with pytest.raises(NotFoundError, match="no background"):
        await _avatar_job(bench, avatar, background_id=avatar.settings.background_id)


async def test_create_with_an_expression_of_a_video_is_refused(bench: Bench) -> None:
    with pytest.raises(OptionError, match="head: a video keeps"):
        await bench.create(bench.spec(face_image=None, head="calm"))
    film = avatar_request(video=bench.upload(b"film"), settings=AvatarSettings(expression="sad"))
    with pytest.raises(OptionError, match="expression: a video keeps"):
        await bench.avatars.create(*film)
    avatar = await bench.avatars.create(AvatarForm(video=film[0].video), None)
    with pytest.raises(OptionError, match="gaze: a video keeps"):
        await bench.avatars.change(*avatar_change(avatar_id=avatar.id, settings=AvatarSettings(gaze="camera")))


FACE_POINTS: Final = FacePoints(
    left_eye=(20, 20), right_eye=(44, 20), mouth_left=(24, 44), mouth_right=(40, 44), chin=(32.5, 60)
)


async def test_create_with_face_points_records_them_as_the_face(bench: Bench) -> None:
    with pytest.raises(OptionError, match="face_points: only for still pictures"):
        await bench.create(bench.spec(face_image=None, face_points=FACE_POINTS))
    bench.stages.video = replace(VIDEO, is_still=True, num_frames=1)
    outside = FACE_POINTS.model_copy(update={"chin": (32.0, 64.0)})
    with pytest.raises(OptionError, match="face_points.chin: expected a point in the picture of 64 x 64 pixels"):
        await bench.create(bench.spec(face_image=None, face_points=outside))
    with pytest.raises(OptionError, match="face_points or face_image, not both"):
        await bench.create(bench.spec(face_points=FACE_POINTS))
    with pytest.raises(OptionError, match="face: expected no value together with face_points"):
        await bench.create(bench.spec(face_image=None, face_points=FACE_POINTS, face="1"))
    job = await bench.create(bench.spec(face_image=None, face_points=FACE_POINTS))
    assert job.options.face == "points:20,20,44,20,24,44,40,44,32.5,60"
    assert FaceChoice.of_record(job.options.face) == FaceChoice("points", FACE_POINTS.numbers)
    assert tuple(FacePoints.model_fields) == MARKS
    avatar = await bench.avatars.create(*avatar_request(video=bench.upload(b"film"), face_points=FACE_POINTS))
    assert avatar.key == job.avatar_key
    turns = (Turn(start=0, end=1, audio="audio"),)
    two = await bench.create(bench.spec(face_image=None, face_points=FACE_POINTS, turns=turns))
    assert two.avatar_key == job.avatar_key


async def test_create_job_copies_avatar_motion_unless_it_is_set(bench: Bench) -> None:
    calm = AvatarSettings(expressiveness=0.6, motion=0.2, background="blur")
    avatar = await bench.avatars.create(*avatar_request(video=bench.upload(b"film"), settings=calm))
    options = (await _avatar_job(bench, avatar)).options
    assert (options.expressiveness, options.motion, options.background) == (0.6, 0.2, "blur")
    options = (await _avatar_job(bench, avatar, expressiveness=1, background="source")).options
    assert (options.expressiveness, options.motion, options.background) == (1, 0.2, None)
    sea = bench.upload(b"sea")
    job = await _avatar_job(bench, avatar, background_file=sea)
    assert (job.options.expressiveness, job.options.background) == (0.6, None)
    assert job.plan.background_file == sea
    again = (await bench.create(bench.spec(face_image=None))).options
    assert (again.expressiveness, again.background) == (1, None), "it sent the video itself"


async def test_create_avatar_again_keeps_or_replaces_its_background(bench: Bench) -> None:
    def send(**fields: str) -> Coroutine[Any, Any, AvatarRecord]:
        request = avatar_request(video=bench.upload(b"film"), settings=AvatarSettings(**fields))
        return bench.avatars.create(*request)

    first = await send(background="blur")
    assert (await send()).settings == first.settings
    other = await send(background="#00b140")
    assert (other.id, other.settings) == (first.id, AvatarSettings(background="#00b140"))
    with pytest.raises(OptionError, match="transparent"):
        await send(background="transparent")
    await asyncio.to_thread(bench.files.stored.remove, source_key(first.key))
    assert (await send()).settings == other.settings, "its source was lost"


async def test_create_job_with_background_of_another_key_is_refused(bench: Bench) -> None:
    stored = await bench.avatars.backgrounds.create(bench.upload(b"beach"), "a")
    beach = AvatarSettings(background_id=stored.id)
    video = bench.upload(b"film")
    with pytest.raises(NotFoundError, match="no background"):
        await bench.avatars.create(*avatar_request(video=video, settings=beach, owner="b"))
    assert bench.table.list_avatars(pinned_only=False) == []
    avatar = await bench.avatars.create(*avatar_request(video=video, owner="b"))
    with pytest.raises(NotFoundError, match="no avatar"):
        await bench.avatars.change(*avatar_change(avatar_id=avatar.id, settings=beach, owner="a"))
    with pytest.raises(NotFoundError, match="no background"):
        await bench.avatars.change(*avatar_change(avatar_id=avatar.id, settings=beach, owner="b"))
    with pytest.raises(NotFoundError, match="no background"):
        await _avatar_job(bench, avatar, "b", background_id=beach.background_id)
    # Without API keys, a caller may use both.
    await bench.avatars.change(*avatar_change(avatar_id=avatar.id, settings=beach))
    assert (await _avatar_job(bench, avatar, "b")).plan.background_file is not None


async def test_create_avatar_after_crash_succeeds(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    put_avatar = bench.table.put_avatar

    def die(avatar: AvatarRecord) -> AvatarRecord:
        monkeypatch.undo()
        put_avatar(avatar)
        raise SystemExit

    monkeypatch.setattr(bench.table, "put_avatar", die)
    request = avatar_request(video=bench.upload(b"film"), face_image=bench.upload(b"picture"))
    with pytest.raises(SystemExit):
        await bench.avatars.create(*request)
    avatar = await bench.avatars.create(*request)
    assert bench.table.list_avatars() == [avatar]
    assert on_disk(bench.files, source_key(avatar.key)).read_bytes() == b"film"


@pytest.mark.parametrize(("loop", "seconds"), [("pingpong", 2.0), ("source", 8.0), ("cut", 2.0), ("retime", 2.0)])
async def test_create_job_counts_the_length_of_its_result(bench: Bench, loop: LoopMode, seconds: float) -> None:
    bench.stages.video = replace(VIDEO, num_frames=200, duration_seconds=8.0)
    job = await bench.create(bench.spec(loop=loop))
    assert (job.audio_seconds, job.result_seconds) == (2.0, seconds)
    assert job.disk_bytes == result_bytes(OutputPicture.of(job.options, VIDEO), seconds)
    for fps in (12.0, 29.97, 60.0):
        job = await bench.create(bench.spec(loop=loop, fps=fps))
        assert abs(job.result_seconds - seconds) < 1 / fps
    bench.stages.video = replace(VIDEO, num_frames=60, duration_seconds=2.4, has_audio=False)
    job = await bench.create(bench.spec(loop="retime", max_audio_stretch=1.25))
    assert job.options.audio_speed == pytest.approx(2.0 / 2.4)
    assert job.audio_seconds == pytest.approx(2.4) and job.result_seconds == 2.4
    with pytest.raises(OptionError, match="background_gain_db: the video has no sound"):
        await bench.create(bench.spec(background_gain_db=-6.0))


async def test_create_job_with_music_stores_it_and_no_turn_plays_it(bench: Bench) -> None:
    bench.stages.video = replace(VIDEO, num_frames=200, duration_seconds=8.0)
    with pytest.raises(OptionError, match="there is no file 'music'. Files that were sent: audio"):
        await bench.create(bench.spec(turns=[Turn(start=1, audio="music")], music=bench.upload(b"song")))
    job = await bench.create(bench.spec(turns=[Turn(start=1, audio="audio")], music=bench.upload(b"song")))
    assert bench.files.has(job_file_key(job.id, "music"))
    made = OutputInfo.of(job, 200)
    assert (made.music, made.sound.music_gain_db) == (job_file_key(job.id, "music"), -12.0)


@pytest.mark.parametrize(("is_labelled", "is_marked"), [(True, False), (False, True)])
async def test_create_job_sets_configured_marks(
    files: FileStore, table: JobTable, is_labelled: bool, is_marked: bool
) -> None:
    bench = Bench(files, table, LabelsConfig(visible=is_labelled, invisible=is_marked))
    job = await bench.create(bench.spec())
    assert job.options.visible_label is is_labelled
    assert job.watermark_id == (job.produce_id[:16] if is_marked else None)
    for identifier, num_found in ((job.produce_id[:16], is_marked), ("0" * 16, 0)):
        assert len(bench.table.list_jobs(JobQuery(limit=5, watermark_id=identifier)).jobs) == num_found


async def test_create_job_with_a_used_key_makes_no_other(bench: Bench) -> None:
    digests = ["a" * 64] * 2
    job, same = [await bench.create(bench.spec(), idempotency_key="a key", request_digest=each) for each in digests]
    assert same.id == job.id
    with pytest.raises(KeyReuseError, match=job.id):
        await bench.create(bench.spec(), idempotency_key="a key", request_digest="b" * 64)
    assert bench.uploads() == []
    assert bench.table.find_job(None, "a key") == job


async def test_create_avatar_after_failure_analyses_it_again(bench: Bench) -> None:
    avatar = await bench.avatars.create(*avatar_request(video=bench.upload(b"film")))
    error = ErrorRecord.of(StageTimeoutError("too slow"))
    bench.table.update_avatar(avatar.key, status=AvatarStatus.FAILED, error=error)
    again = await bench.avatars.create(*avatar_request(video=bench.upload(b"film")))
    assert (again.id, again.status, again.error) == (avatar.id, AvatarStatus.ANALYSING, None)


async def test_create_avatar_with_keep_false_is_not_listed(bench: Bench) -> None:
    await bench.create(bench.spec())
    sent = await bench.avatars.create(*avatar_request(video=bench.upload(b"another film"), keep=False))
    assert bench.table.list_avatars() == []
    assert bench.table.analysing_avatars() == [sent], "a job waits for its own, and nobody for it"
    kept = await bench.avatars.create(*avatar_request(video=bench.upload(b"another film")))
    assert (kept.id, bench.table.list_avatars()) == (sent.id, [kept])
    again = await bench.avatars.create(*avatar_request(video=bench.upload(b"another film"), keep=False))
    assert again.pinned, "what was kept once stays kept"


async def test_create_job_stores_the_trace_of_its_request(bench: Bench) -> None:
    first, second = ({"traceparent": f"00-{number * 32}-{number * 16}-01", "tracestate": "a=1"} for number in "12")
    with call_context(CallContext("", trace=TraceContext.parse(**first))):
        job = await bench.create(bench.spec())
    assert bench.table.get_job(job.id).trace == first
    bench.table.update_job(job.id, status=JobStatus.FAILED, error=ErrorRecord.of(StageTimeoutError("too slow")))
    with call_context(CallContext("", trace=TraceContext.parse(**second))):
        again = await bench.submissions.retry_job(bench.table.get_job(job.id), new_id())
    assert again.trace == second
    assert (await bench.create(bench.spec())).trace == {}


async def test_retry_job_of_a_failed_job_copies_its_inputs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = bench.spec(background_file=bench.upload(b"beach"), music=bench.upload(b"song"))
    failed = await bench.create(spec, idempotency_key="key")
    with pytest.raises(StateError, match="its status is queued, not failed"):
        await bench.submissions.retry_job(failed, new_id())
    error = ErrorRecord.of(StageTimeoutError("too slow"))
    bench.table.update_job(failed.id, status=JobStatus.FAILED, error=error)
    failed, threads = bench.table.get_job(failed.id), list[Thread]()
    monkeypatch.setattr(bench.submissions._admission, "check_disk", lambda _: threads.append(current_thread()))
    again = await bench.submissions.retry_job(failed, new_id())
    assert threads and main_thread() not in threads, "it reads the table"
    assert (again.status, again.error, again.attempts, again.idempotency_key) == (JobStatus.QUEUED, None, 0, None)
    assert (again.options, again.produce_id) == (failed.options, failed.produce_id)
    assert again.watermark_id == failed.watermark_id
    bench.files.delete_job(failed.id)
    stored = [job_file_key(again.id), job_file_key(again.id, MUSIC), job_file_key(again.id, "background")]
    assert [on_disk(bench.files, key).read_bytes() for key in stored] == [b"sound", b"song", b"beach"]
    with pytest.raises(NotFoundError, match="Submit them again"):
        await bench.submissions.retry_job(failed, new_id())


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


@pytest.mark.parametrize(
    ("face", "start", "message"),
    [
        ("person:0", 0.5, r"turns\[0\] and turns\[1\] are two turns of face 'largest' and overlap"),
        ("person:2", 1, r"turns\[1\].face: expected person:0 to person:1"),
        ("largest", 2.5, r"turns\[1\].start: the video ends at 2 s, before 2.5 s"),
    ],
)
async def test_create_job_with_impossible_turns_is_refused(bench: Bench, face: str, start: float, message: str) -> None:
    turns = [Turn(start=0, face="largest", end=1, text="a"), Turn(start=start, face=face, text="b")]
    with pytest.raises(OptionError, match=message):
        await bench.create(bench.spec(turns=turns, face_image=None, audio=None))


async def test_create_job_with_turns_of_one_person_uses_one_face(bench: Bench) -> None:
    faces = ("person:1", "index:1", "person:0")
    turns = [Turn(start=number / 2, face=face, end=number / 2 + 0.5) for number, face in enumerate(faces)]
    job = await bench.create(bench.spec(turns=turns, face_image=None))
    assert job.options.turns is not None
    assert [turn.face for turn in job.options.turns] == ["person:1", "person:1", "person:0"]
    assert list(job.turn_avatar_keys) == ["person:0", "person:1"]


SUBTITLES = b"1\n00:00:00,500 --> 00:00:01,000\nANNA: Hello\n\n2\n00:00:01,200 --> 00:00:01,900\nBOB: Hi\n"


@pytest.fixture
def dub(bench: Bench) -> Bench:
    """Has a voice with limits, which is not there and so must not be asked."""
    server = TtsConfig(url="http://127.0.0.1:1/v1", max_chars=1000, max_total_chars=2000)
    bench.submissions = bench.submissions_with(partial(check_texts, server))
    return bench


def _create(bench: Bench, **fields: Any) -> JobRecord:
    """Create a job with a film; `bytes` become uploads."""
    sent = {name: bench.upload(each) if isinstance(each, bytes) else each for name, each in fields.items()}
    sent["more_audio"] = {name: bench.upload(each) for name, each in fields.get("more_audio", {}).items()}
    return asyncio.run(bench.create(bench.spec(**{"audio": None, "face_image": None, **sent})))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"subtitles": SUBTITLES, "speakers": {"Eve": {}}}, "no speaker 'Eve'. Its speakers: ANNA, BOB"),
        ({"subtitles": SUBTITLES * 3000}, "at most 5000 cues, found 6000"),
        ({"subtitles": b"x" * 250_000}, "expected an SRT or WebVTT file"),
        ({"subtitles": b"x" * 2_000_000}, "subtitles: expected at most 1048576 bytes"),
        ({"audio": b"sound", "diarization": b";;\n"}, "no segment"),
        ({"audio": b"sound", "diarization": b"SPEAKER a 1 7 1 <NA> <NA> A <NA> <NA>\n"}, "the video ends at 2 s"),
        ({"turns": [Turn(start=0, audio="audio")]}, "send the audio files"),
        ({"audio": b"sound", "turns": [Turn(start=0, audio="audio_b")]}, r"turns\[0\].audio: there is no file"),
        ({"more_audio": {"audio_synthesized": b"x"}, "turns": [Turn(start=0, text="Hi")]}, "the name is reserved"),
        ({"text": "x" * 1001}, "text: expected at most 1000 characters, found 1001"),
        ({"turns": [Turn(start=each, text="x" * 900) for each in (0, 0.5, 1)]}, "at most 2000 characters in all"),
    ],
)
def test_create_job_with_unusable_texts_is_refused(dub: Bench, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        _create(dub, **fields)
    assert not dub.table.list_jobs(JobQuery(limit=5)).jobs


def test_create_job_without_a_voice_refuses_texts(dub: Bench) -> None:
    dub.submissions._check_texts = partial(check_texts, TtsConfig(use_builtin=False))
    for fields in ({"text": "Hi."}, {"subtitles": SUBTITLES}, {"turns": [Turn(start=0, text="Hi")]}):
        with pytest.raises(OptionError, match="text: this service has no voice"):
            _create(dub, **fields)
    assert _create(dub, audio=b"sound").plan.is_complete


def test_create_job_with_subtitles_stores_them_unspoken(dub: Bench) -> None:
    job = _create(dub, subtitles=SUBTITLES, speakers={"Anna": {"face": "0", "voice": "nova"}}, voice="echo")
    assert on_disk(dub.files, job_file_key(job.id, "subtitles")).read_bytes() == SUBTITLES
    assert dub.uploads() == []
    assert (job.plan.is_complete, job.plan.needs_faces, job.plan.audio, job.watermark_id) == (False, False, {}, None)
    turns = [(turn.face, turn.text, turn.voice, turn.start, turn.end) for turn in job.plan.turns]
    assert turns == [("0", "Hello", "nova", 0.5, 1.0), ("speaking", "Hi", "echo", 1.2, 1.9)]
    assert job.spec == dub.table.get_job(job.id).spec and job.result_seconds == 2.0


def test_create_job_with_one_other_file_plays_it_as_audio(dub: Bench) -> None:
    job = _create(dub, more_audio={"audio_anna": b"Anna"}, turns=[Turn(start=1, audio="audio_anna")])
    assert on_disk(dub.files, job_file_key(job.id)).read_bytes() == b"Anna"
    assert (set(job.plan.audio), job.plan.turns[0].audio, job.plan.is_complete) == ({"audio"}, "audio", True)
    with_text = [Turn(start=0, audio="audio_anna"), Turn(start=0, face="1", text="Hi")]
    job = _create(dub, more_audio={"audio_anna": b"Anna"}, turns=with_text)
    assert set(job.plan.audio) == {"audio_anna"}, "`audio` will be the text"
    assert dub.uploads() == []


def test_create_job_with_a_diarization_is_complete(dub: Bench) -> None:
    rttm = b"SPEAKER a 1 0.5 0.5 <NA> <NA> A <NA> <NA>\nSPEAKER a 1 1.6 0.4 <NA> <NA> B <NA> <NA>\n"
    job = _create(dub, audio=b"sound", diarization=rttm, speakers={"A": {"face": "0"}})
    turns = [(turn.face, turn.start, turn.audio_start, turn.end) for turn in job.plan.turns]
    assert turns == [("0", 0.5, 0.5, 1.0), ("speaking", 1.6, 1.6, 2.0)]
    assert job.plan.is_complete and job.watermark_id == job.produce_id[:16]


async def _avatar_with_clip(bench: Bench) -> AvatarRecord:
    """An avatar with a clip that is ready, and one whose analysis has failed."""
    avatar = await bench.avatars.create(*avatar_request(video=bench.upload(b"film of an avatar")))
    clips = {}
    for name, status in (("wave", AvatarStatus.READY), ("nod", AvatarStatus.FAILED)):
        row = avatar_record(belongs_to=avatar.key, status=status)
        on_disk(bench.files, source_key(bench.table.put_avatar(row).key)).write_bytes(b"clip")
        clips[name] = AvatarClip(kind="action", key=row.key, created_at=row.created_at)
    return bench.table.update_avatar(avatar.key, clips=clips)


async def test_create_job_on_avatar_with_clips_plays_them(bench: Bench) -> None:
    avatar = await _avatar_with_clip(bench)
    job = await _avatar_job(bench, avatar)
    assert list(job.plan.clips) == [OWN, "wave"]
    assert (job.options.loop, job.avatar_key) == ("natural", composite_key(job.plan.clips))
    composite = bench.table.find_avatar(job.avatar_key)
    assert composite is not None
    assert (composite.parts, composite.belongs_to) == (job.plan.clips, avatar.key)
    assert job.uploaded_avatar_keys == [avatar.key, avatar.clips["wave"].key]
    bench.table.update_job(job.id, status=JobStatus.FAILED)
    bench.table.delete_avatar(job.avatar_key)  # composites are a cache
    again = await bench.submissions.retry_job(bench.table.get_job(job.id), new_id())
    assert again.avatar_key == job.avatar_key and bench.table.find_avatar(job.avatar_key) is not None
    source_info = bench.avatars.source_info

    async def delete_clip(avatar: AvatarRecord) -> VideoInfo:
        bench.table.delete_avatar(job.plan.clips["wave"].key)  # after the parts of the job are chosen
        return await source_info(avatar)

    bench.avatars.source_info = delete_clip  # type: ignore[method-assign]
    with pytest.raises(StateError, match="was deleted meanwhile"):
        await _avatar_job(bench, avatar)


async def test_create_job_bound_to_the_video_plays_no_clips(bench: Bench) -> None:
    bench.stages.video = replace(VIDEO, has_audio=True)
    avatar = await _avatar_with_clip(bench)
    bound: list[dict[str, Any]] = [{"loop": "hold"}, {"background_gain_db": -6.0}, {"turns": [Turn(start=0, face="0")]}]
    for options in bound:
        job = await _avatar_job(bench, avatar, **options)
        assert (job.avatar_key, job.plan.clips) == (avatar.key, {})


@pytest.mark.parametrize("is_still", [False, True])
async def test_create_job_with_loop_natural_plays_a_composite(bench: Bench, is_still: bool) -> None:
    bench.stages.video = replace(VIDEO, is_still=is_still)
    job = await bench.create(bench.spec(loop="natural"))
    composite = bench.table.find_avatar(job.avatar_key)
    assert composite is not None and job.options.loop == "natural"
    assert list(composite.parts) == ([] if is_still else [OWN])


async def test_create_job_with_turns_of_one_face_plays_clips(bench: Bench) -> None:
    avatar = await _avatar_with_clip(bench)
    turns = (Turn(start=5, text="Hi [wave] you"), Turn(start=9, text="No.", face="offscreen", action="wave"))
    job = await bench.create(bench.spec(video=None, face_image=None, audio=None, avatar_id=avatar.id, turns=turns))
    first, second = job.plan.turns
    assert (job.options.loop, job.options.idle_mouths, first.end) == ("natural", "closed", None)
    assert (first.text, first.actions, first.marked_text) == ("Hi you", ((3, "wave"),), "Hi [wave] you")
    assert second.action == "wave"
    assert job.result_seconds > 9, "as long as the turns, not as the video"


ACTED = (
    b"1\n00:00:00,500 --> 00:00:01,000\nANNA: Hi [wave] you [applause]\n\n"
    b"2\n00:00:00,900 --> 00:00:01,200\n[laughs] No.\n\n"
    b"3\n00:00:01,300 --> 00:00:01,400\n[wave] ...\n\n"
    b"4\n00:00:01,500 --> 00:00:01,900\nBOB: [door slams] Bye!\n"
)


async def test_create_job_with_subtitles_on_clips_reads_actions(bench: Bench) -> None:
    avatar = await _avatar_with_clip(bench)

    async def create(**speakers: dict[str, str]) -> JobRecord:
        sent = {"video": None, "face_image": None, "audio": None, "avatar_id": avatar.id}
        return await bench.create(bench.spec(**sent, subtitles=bench.upload(ACTED), speakers=speakers))

    job = await create(Bob={"face": "offscreen"})
    assert (job.avatar_key, job.options.loop) == (composite_key(job.plan.clips), "natural")
    turns = [(turn.face, turn.text, turn.end) for turn in job.plan.turns]
    assert turns == [(None, "Hi you", 0.9), (None, "No.", 1.2), ("offscreen", "Bye!", 1.9)]
    assert job.plan.turns[0].actions == ((3, "wave"),) and not job.plan.turns[2].actions
    assert [(action.seconds, action.name) for action in job.plan.cue_actions] == [(1.3, "wave")]
    dub = await create(Anna={"face": "0"})
    assert dub.plan.clips == {} and [turn.text for turn in dub.plan.turns] == ["Hi you", "No.", "Bye!"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": "Hi [wawe] you"}, "no action 'wawe'. Actions of this avatar: wave"),
        ({"text": "Hi", "action": "bow"}, "no action 'bow'"),
        ({"turns": (Turn(start=0, text="Hi"), Turn(start=1, text="[bow] Hi"))}, r"turns\[1\].action: .* 'bow'"),
        ({"turns": (Turn(start=0, text="[wave] Hi", face="person:1"),)}, r"turns\[0\].action: actions need"),
        ({"text": "Hi [wave] you", "loop": "hold"}, "actions need an avatar with clips"),
    ],
)
async def test_create_job_with_impossible_action_is_refused(bench: Bench, fields: dict[str, Any], message: str) -> None:
    avatar = await _avatar_with_clip(bench)
    with pytest.raises(OptionError, match=message):
        await bench.create(bench.spec(video=None, face_image=None, audio=None, avatar_id=avatar.id, **fields))
    assert bench.table.list_jobs(JobQuery(limit=9)).jobs == []


async def test_create_job_without_clips_speaks_brackets(bench: Bench) -> None:
    spoken = list[str]()
    submissions = bench.submissions_with(spoken.extend)
    await submissions.create_job(bench.spec(audio=None, text="Hi [wave]"), RequestContext())
    assert spoken == ["Hi [wave]"]
    with pytest.raises(OptionError, match="actions need an avatar with clips"):
        await bench.create(bench.spec(action="wave"))
