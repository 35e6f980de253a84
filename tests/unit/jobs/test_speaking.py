"""Texts of jobs: they are spoken when the job runs, and drafts are changed before they are rendered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from lipwright.config import SubtitlesConfig, TtsConfig
from lipwright.errors import CapacityError, FaceNotFoundError, NotFoundError, OptionError, StateError, VoiceError
from lipwright.jobs.admission import AdmitRequest
from lipwright.jobs.drafts import Drafts
from lipwright.jobs.messages import ProbeResult
from lipwright.jobs.model.edits import NewTurn, TurnChange, TurnEdit, TurnRemoval, TurnSplit
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.model.turns import Turn
from lipwright.jobs.run import JobRun
from lipwright.jobs.sources.people import People
from lipwright.jobs.speaking import SpeakingStage
from lipwright.jobs.speech_messages import (
    ChosenVoices,
    PlacedCue,
    RecordedCue,
    RecordedSpeech,
    TranslatedCue,
    VoiceRequest,
)
from lipwright.jobs.turns import closures_of, faces_of
from lipwright.media.dubbing.slots import fit
from lipwright.media.probe import AudioInfo, ColourTags, VideoInfo
from lipwright.media.subtitles.cues import Cue
from lipwright.speech.limits import check_texts
from lipwright.storage.cues import SpokenCue
from lipwright.storage.file_keys import job_cues_folder, job_file_key, source_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.row_codec import AvatarRecord
from lipwright.telemetry.log_context import CallContext
from models.face.choice import FaceChoice
from models.people.report import PeopleReport, SpeakerTurn
from tests.unit.jobs.job_bench import CONFIG, JobBench
from tests.unit.jobs.no_stages import NoStages
from tests.unit.on_disk import on_disk
from tests.waiting import until

VIDEO = VideoInfo(64, 64, Fraction(25), 250, 10.0, 0, False, False, ColourTags(1, False, 1, 1), "h264", "yuv420p", True)
AUDIO = AudioInfo(16000, 1, 2.0, "pcm_s16le")
SERVERS = SubtitlesConfig(transcription_url="http://a", translation_url="http://b")
SECONDS_PER_LETTER = 0.1


class SpeakingStages(NoStages):
    """A voice that takes a tenth of a second per letter; a text with `silent` fails."""

    def __init__(self, files: FileStore, has_audio: bool = True) -> None:
        self._files, self.video = files, replace(VIDEO, has_audio=has_audio)
        self.probed: list[str] = []
        self.spoken: list[tuple[str, str | None]] = []  # texts and their voices
        self.recorded: list[tuple[float, str]] = []  # when each text starts, and the file that it is in
        self.languages: list[str | None] = []  # in which voices were chosen
        self.is_silent = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.transcribed: list[str] = []

    @property
    def texts(self) -> list[str]:
        return sorted(text for text, _ in self.spoken)

    async def probe(self, context: CallContext, video: str | None, audio: str | None) -> ProbeResult:
        assert all(self._files.has(key) for key in (video, audio) if key is not None)
        self.probed.append(video or audio or "")
        return ProbeResult(self.video if video else None, AUDIO if audio else None)

    async def choose_voices(self, context: Any, requests: Sequence[VoiceRequest], language: Any) -> ChosenVoices:
        self.languages.append(language)
        names: dict[str | None, str] = {}
        voices = [request.voice or names.setdefault(request.speaker, f"voice {len(names)}") for request in requests]
        return ChosenVoices(tuple(voices), "eng")

    async def speak(self, context: CallContext, text: str, voice: Any, owner: Any, folder: str) -> SpokenCue:
        if "silent" in text and self.is_silent:
            raise VoiceError("The voice returned no audio.")
        content = f"{text}|{voice}".encode()
        digest = hashlib.sha256(content).hexdigest()
        key = f"{folder}/{digest[:32]}"
        if not self._files.has(key):
            self.spoken.append((text, voice))
            await self.may_answer.wait()
            self._files.stored.put(key, content)
        seconds = len(text) * SECONDS_PER_LETTER
        return SpokenCue(key=key, sha256=digest, num_bytes=len(content), seconds=seconds, closures=((0.2, 0.3),))

    async def transcribe(self, context: CallContext, video: str, owner: str | None) -> list[Cue]:
        self.transcribed.append(video)
        return [Cue(0.5, 2.5, "ONE"), Cue(4.0, 6.0, "SILENT")]

    async def translate(self, context: CallContext, cues: Sequence[Cue], language: str) -> list[TranslatedCue]:
        assert language == "deu"
        return [TranslatedCue(cue.start, cue.end, cue.text.lower(), original_text=cue.text) for cue in cues]

    async def record_speech(self, context: CallContext, cues: Sequence[PlacedCue], out: str) -> RecordedSpeech:
        self._files.stored.put(out, b"recording")
        self.recorded += [(cue.slot.start, out.rpartition("/")[2]) for cue in cues]
        recorded, start = [], 0.0
        for cue in cues:
            text = on_disk(self._files, cue.key).read_bytes().partition(b"|")[0]
            speed, seconds, cut = fit(len(text) * SECONDS_PER_LETTER, cue.slot)
            recorded.append(RecordedCue(start, seconds, speed, cut, ((start + 0.2 / speed, start + 0.3 / speed),)))
            start += seconds
        return RecordedSpeech(hashlib.sha256(b"recording").hexdigest(), 9, tuple(recorded))


class TwoPeople(People):
    """Two people, known once the search has ended: `largest` is the first, and the other sits at `index:1`."""

    async def known(self, sha256: str, owner: str | None) -> PeopleReport | None:
        return None

    async def find(self, record: AvatarRecord, source: object) -> PeopleReport:
        turns = [SpeakerTurn(person=each, start=3 * each, end=3 + 6 * each, confidence=1) for each in (0, 1)]
        return PeopleReport(people=(), turns=tuple(turns))

    async def resolve(self, sha256: str, owner: str | None, choice: FaceChoice) -> int | None:
        if choice.kind == "person" and choice.numbers[0] > 1:
            raise FaceNotFoundError(f"face: expected person:0 to person:1, found {str(choice)!r}.")
        return {"largest": 0, "index:1": 1, "person:0": 0, "person:1": 1}.get(str(choice))


class Bench(JobBench):
    def __init__(
        self, files: FileStore, table: JobTable, subtitles: SubtitlesConfig | None = None, has_audio: bool = True
    ) -> None:
        self.stages = SpeakingStages(files, has_audio)
        config = CONFIG.model_copy(update={"subtitles": subtitles or CONFIG.subtitles})
        super().__init__(files, table, self.stages, config, people=TwoPeople)
        self.drafts = Drafts(self.services, self.admission.check_approval)

    async def speak(self, job: JobRecord) -> JobRecord:
        await SpeakingStage(self.services).complete(self.table.get_job(job.id), VIDEO)
        return self.table.get_job(job.id)

    async def draft(self, **fields: Any) -> JobRecord:
        """A job in review."""
        job = await self.create(review=True, **fields)
        assert await JobRun(self.services, job).run() is JobStatus.REVIEW
        self.table.update_job(job.id, status=JobStatus.REVIEW)
        return self.table.get_job(job.id)

    async def edit(self, job: JobRecord, number: int, edit: Any) -> JobRecord:
        version = self.table.get_job(job.id).version
        return await self.drafts.edit(job.id, TurnEdit(number=number, version=version, edit=edit))


@pytest.fixture
def bench(files: FileStore, table: JobTable) -> Bench:
    return Bench(files, table)


def texts(*texts: str) -> tuple[Turn, ...]:
    return tuple(Turn(start=2.0 * number, text=text, speaker=text) for number, text in enumerate(texts))


async def test_create_job_with_text_answers_before_it_is_spoken(bench: Bench) -> None:
    job = await bench.create(text="Good morning.", voice="nova")
    assert not job.plan.is_complete and job.watermark_id is None and bench.stages.spoken == []
    assert job.audio_label == "Good morning" and job.result_seconds > 1
    job = await bench.speak(job)
    assert job.plan.is_complete and job.watermark_id == job.produce_id[:16]
    assert on_disk(bench.files, job_file_key(job.id)).read_bytes() == b"Good morning.|nova"
    assert (job.num_cues, job.num_cues_done, job.options.language, job.audio_seconds) == (1, 1, "eng", 2.0)


async def test_complete_speaks_turns_into_their_slots(bench: Bench) -> None:
    turns = (*texts("a" * 10, "b" * 30), Turn(start=6, face="1"))
    job = await bench.speak(await bench.create(turns=turns, audio=b"sound"))
    assert sorted(bench.stages.spoken) == [("a" * 10, "voice 0"), ("b" * 30, "voice 1")]
    first, second, third = job.plan.turns
    assert (first.audio, first.audio_start, first.end, first.speed) == ("audio_synthesized", 0.0, 1.0, None)
    assert (second.audio_start, second.end, second.natural_seconds) == (1.0, 5.0, 3.0)
    assert (third.audio, third.end) == ("audio", 8.0)
    assert set(job.plan.audio) == {"audio", "audio_synthesized"} and job.result_seconds == 10.0
    assert job.num_cues_done == 2


async def test_complete_keeps_closures_in_seconds_of_the_job(bench: Bench) -> None:
    job = await bench.speak(await bench.create(turns=texts("a" * 10, "b" * 30)))
    assert list(job.plan.audio) == ["audio"], "the first free name"
    (face,) = faces_of(job.plan.turns)
    assert closures_of(job, face) == ((0.2, 0.3), (2.2, 2.3))
    job = await bench.speak(await bench.create(text="abc"))
    assert closures_of(job, None) == ((0.2, 0.3),)
    assert closures_of(job.model_copy(update={"plan": job.plan.with_options(audio_speed=0.5)}), None) == ((0.4, 0.6),)
    job = await bench.speak(await bench.create(audio=b"sound"))
    assert closures_of(job, None) == ()


async def test_complete_after_failure_speaks_only_what_is_missing(bench: Bench) -> None:
    job = await bench.create(turns=texts("one", "two", "silent", "four"))
    bench.stages.is_silent = True
    with pytest.raises(ExceptionGroup) as raised:
        await bench.speak(job)
    (error,) = raised.value.exceptions
    assert str(error) == "turns[2], at 4 s: The voice returned no audio."
    bench.stages.is_silent = False
    assert {"one", "two"} <= set(bench.stages.texts)
    await bench.speak(job)
    assert bench.stages.texts == ["four", "one", "silent", "two"]


@pytest.mark.parametrize("are_known", [True, False])
async def test_complete_waits_for_the_people_of_the_video(bench: Bench, are_known: bool) -> None:
    first = await bench.create(text="Hi.")
    record = await bench.avatars.record(first.avatar_key)
    subtitles = b"1\n00:00:01,000 --> 00:00:02,000\nA: Hi\n\n2\n00:00:04,000 --> 00:00:06,000\nB: Ho\n"
    if are_known:
        known = await bench.avatars.people.find(record, await bench.avatars.source(record.key))
        bench.avatars.people.known = AsyncMock(return_value=known)  # type: ignore[method-assign]
    job = await bench.create(video=None, avatar_id=record.id, subtitles=subtitles)
    assert job.plan.needs_faces is not are_known
    job = await bench.speak(job)
    assert [turn.face for turn in job.plan.turns] == ["person:0", "person:1"]
    assert set(job.turn_avatar_keys) == {"person:0", "person:1"}


async def test_complete_translates_and_casts_the_video_once(files: FileStore, table: JobTable) -> None:
    bench = Bench(files, table, SERVERS)
    job = await bench.create(translate_to="German", subtitles_output="track")
    assert job.plan.needs_transcript and job.audio_label == "German" and job.result_seconds == 10
    bench.stages.is_silent = True
    with pytest.raises(ExceptionGroup):
        await bench.speak(job)
    bench.stages.is_silent = False
    job = await bench.speak(job)
    assert bench.stages.transcribed == [source_key(job.avatar_key)]
    assert bench.stages.texts == ["one", "silent"]
    assert [(turn.face, turn.original_text) for turn in job.plan.turns] == [("person:0", "ONE"), ("person:1", "SILENT")]
    assert set(bench.stages.languages) == {"deu"} and job.options.language == "deu" and job.plan.is_complete


@pytest.mark.parametrize(
    ("settings", "has_audio", "message"),
    [
        (SubtitlesConfig(), True, "cannot transcribe"),
        (SubtitlesConfig(transcription_url="http://a"), True, "cannot translate"),
        (SERVERS, False, "the video has no sound"),
    ],
)
async def test_create_job_translate_to_impossible_is_refused(
    files: FileStore, table: JobTable, settings: SubtitlesConfig, has_audio: bool, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        await Bench(files, table, settings, has_audio).create(translate_to="German")


async def test_subtitles_of_a_language_keep_the_default_voice(bench: Bench) -> None:
    subtitles = bench.upload(b"1\n00:00:01,000 --> 00:00:02,000\nHallo\n", "film.de.srt")
    job = await bench.speak(await bench.create(subtitles=subtitles))
    assert (bench.stages.languages, job.options.language) == ([None], "deu")


async def test_run_of_reviewed_job_stops_with_fits(bench: Bench) -> None:
    job = await bench.draft(turns=texts("a" * 10, "b" * 25, "c"))
    assert (job.plan.needs_review, job.plan.is_complete) == (True, False)
    fits = [(turn.natural_seconds, turn.speed, turn.cut_seconds) for turn in job.plan.turns]
    assert fits == [(1.0, None, None), (2.5, 1.25, None), (0.1, None, None)]
    assert all(bench.files.has(f"{job_cues_folder(job.id)}/{turn.cue}") for turn in job.plan.turns)


async def test_edit_speaks_only_the_changed_turn(bench: Bench) -> None:
    job = await bench.draft(turns=texts("one", "two", "three"))
    bench.stages.spoken.clear()
    job = await bench.edit(job, 1, TurnChange(text="a new text", gain_db=-3))
    assert bench.stages.spoken == [("a new text", "voice 1")]
    assert (job.plan.turns[1].natural_seconds, job.plan.turns[1].gain_db) == (1.0, -3)
    job = await bench.edit(job, 0, TurnChange(start=1.5))
    assert len(bench.stages.spoken) == 1 and job.plan.turns[0].start == 1.5
    job = await bench.edit(job, 2, TurnSplit(start=4.5, text="th", next_text="ree"))
    assert [turn.text for turn in job.plan.turns] == ["one", "a new text", "th", "ree"]
    job = await bench.edit(job, 1, TurnRemoval())
    job = await bench.edit(job, 0, NewTurn(text="more", start=8, face="1"))
    assert [turn.text for turn in job.plan.turns] == ["one", "th", "ree", "more"]
    assert (job.num_cues, list(job.turn_avatar_keys)) == (4, ["1"])
    job = await bench.drafts.approve(job.id)
    assert (job.status, job.plan.needs_review) == (JobStatus.QUEUED, False)
    bench.stages.spoken.clear()
    job = await bench.speak(job)
    assert job.plan.is_complete and bench.stages.spoken == []


@pytest.mark.parametrize(
    ("number", "edit", "error", "message"),
    [
        (3, TurnChange(text="x"), NotFoundError, "There is no turn 3: expected 0 to 1"),
        (0, TurnChange(start=2.0), OptionError, "two turns of the face of the job and overlap"),
        (0, TurnChange(end=3.0), OptionError, "overlap"),
        (1, TurnChange(start=11), OptionError, "the video ends at 10 s"),
        (1, TurnChange(face="person:9"), OptionError, r"turns\[1\].face: expected person:0 to person:1"),
        (1, TurnChange(face="nose"), OptionError, r"turns\[1\].face: Expected a face"),
        (1, TurnChange(text="silent"), VoiceError, r"turns\[1\], at 2 s: The voice returned no audio"),
        (1, TurnSplit(start=1.0, text="a", next_text="b"), OptionError, "between its start and its end"),
    ],
)
async def test_edit_that_is_impossible_changes_nothing(
    bench: Bench, number: int, edit: Any, error: type[Exception], message: str
) -> None:
    job = await bench.draft(turns=texts("one", "two"))
    bench.stages.is_silent = True
    with pytest.raises(error, match=message):
        await bench.edit(job, number, edit)
    assert bench.table.get_job(job.id) == job


async def test_turn_of_a_still_after_the_longest_speech_is_refused(bench: Bench) -> None:
    bench.stages.video = replace(VIDEO, is_still=True, num_frames=1)
    job = await bench.draft(turns=texts("one"))
    with pytest.raises(OptionError, match="expected an end within 10800 s, found 30000 s"):
        await bench.edit(job, 0, NewTurn(text="two", start=30_000))
    with pytest.raises(OptionError, match="expected an end within 10800 s, found 30000 s"):
        await bench.create(turns=(Turn(start=30_000, text="one"),))


async def test_edit_with_unusable_text_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lipwright.jobs.submission.check_fonts", lambda texts: None)
    job = await bench.draft(turns=texts("one", "two"), subtitles_output="burnt")
    server = TtsConfig(url="http://127.0.0.1:1/v1", max_total_chars=9)
    bench.check_texts(partial(check_texts, server))
    bench.drafts = Drafts(bench.services, bench.admission.check_approval)
    with pytest.raises(OptionError, match="at most 9 characters in all, found 10"):
        await bench.edit(job, 0, TurnChange(text="sixteen"))
    monkeypatch.setattr("lipwright.jobs.drafts.check_fonts", Mock(side_effect=OptionError("no font")))
    with pytest.raises(OptionError, match="no font"):
        await bench.edit(job, 0, TurnChange(text="six"))
    assert (await bench.edit(job, 0, TurnRemoval())).num_cues == 1


@pytest.mark.parametrize(("field", "removed"), [("audio", 1), ("audio_b", 1), ("audio_b", 0)])
async def test_edit_removes_last_text_or_use_of_a_file(bench: Bench, field: str, removed: int) -> None:
    sent: dict[str, Any] = {"audio": b"sound"} if field == "audio" else {"more_audio": {field: b"sound"}}
    job = await bench.draft(turns=(Turn(start=0, text="one"), Turn(start=6, audio=field, face="1")), **sent)
    await bench.edit(job, removed, TurnRemoval())
    await bench.drafts.approve(job.id)
    job = await bench.speak(job)
    assert job.plan.is_complete and job.watermark_id == job.produce_id[:16]


async def test_approve_with_full_queue_leaves_job_in_review(bench: Bench) -> None:
    job = await bench.draft(turns=texts("one"))
    places: list[str] = []
    with pytest.raises(CapacityError):
        while True:
            places.append(bench.admission.admit(AdmitRequest(num_bytes=1, max_bytes=1)).id)
    with pytest.raises(CapacityError, match="The queue is full"):
        await bench.drafts.approve(job.id)
    assert bench.table.get_job(job.id).status is JobStatus.REVIEW
    bench.admission.release(places[0])
    assert (await bench.drafts.approve(job.id)).status is JobStatus.QUEUED


async def test_approve_during_an_edit_renders_its_text(bench: Bench) -> None:
    job = await bench.draft(turns=texts("one", "two"))
    bench.stages.may_answer.clear()
    edit = asyncio.create_task(bench.edit(job, 0, TurnChange(text="new")))
    await until(lambda: len(bench.stages.spoken) == 3)
    approval = asyncio.create_task(bench.drafts.approve(job.id))
    await bench.table.run_in_thread(lambda: None)  # after everything that the approval reads without waiting
    bench.stages.may_answer.set()
    await asyncio.gather(edit, approval)
    job = bench.table.get_job(job.id)
    assert (job.status, job.plan.needs_review, job.plan.turns[0].text) == (JobStatus.QUEUED, False, "new")


async def test_edit_of_another_version_or_status_is_refused(bench: Bench) -> None:
    job = await bench.draft(turns=texts("one", "two"))
    with pytest.raises(StateError, match="has changed in the meantime"):
        await bench.drafts.edit(job.id, TurnEdit(version=job.version - 1, edit=TurnRemoval()))
    edits = [bench.edit(job, number, TurnChange(text=f"text {number}")) for number in (0, 1)]
    done = await asyncio.gather(*edits, return_exceptions=True)
    assert sum(isinstance(each, StateError) for each in done) == 1, "both were made for the same version"
    await bench.drafts.approve(job.id)
    approved = await bench.drafts.approve(job.id)
    assert approved.status is JobStatus.QUEUED
    with pytest.raises(StateError, match="it is queued, not in review"):
        await bench.edit(approved, 0, TurnRemoval())
    other = await bench.create(turns=texts("one"))
    with pytest.raises(StateError, match="cannot be approved: it is queued"):
        await bench.drafts.approve(other.id)
