"""Revisions: what they change, what they refuse, and that unchanged segments are not rendered again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from lipwright.errors import NotFoundError, OptionError, StateError
from lipwright.jobs.messages import BlockRequest, OutputInfo, PreparedSpeech, ShownBlock, SourceVideo
from lipwright.jobs.model.base import new_id, utc_now
from lipwright.jobs.model.clip import AvatarClip
from lipwright.jobs.model.edits import Revision
from lipwright.jobs.model.plan import JobOptions, StoredLevel
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.model.turns import PlannedTurn, Recording, Turn
from lipwright.jobs.revisions import Revisions
from lipwright.jobs.run import similar_level
from lipwright.jobs.sources.avatars import Avatars
from lipwright.jobs.speaking import SpeakingStage
from lipwright.storage.file_keys import job_cues_folder, job_file_key, segment_key, sound_key, source_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.telemetry.log_context import CallContext
from models.speech.level import SpeechLevel
from tests.unit.job_records import SOUND, avatar_record, job_record
from tests.unit.jobs.job_bench import JobBench
from tests.unit.jobs.test_run import CONFIG, VIDEO, IntactAvatars, MemoryStages, RunBench
from tests.unit.jobs.test_speaking import SpeakingStages
from tests.unit.on_disk import on_disk

KEY = "0" * 32
FILM = replace(VIDEO, num_frames=175, duration_seconds=7.0)


class ChangedStages(MemoryStages):
    """The mouth and the speech are others in frames [60, 65), with `change` other than 0."""

    def __init__(self, files: FileStore, change: int) -> None:
        super().__init__(files, self._make)
        self._change = change
        self.rendered: list[int] = []
        self.joined: list[str] = []
        self.pieces: tuple[str | None, str | None] = (None, None)

    def _make(self, first: int) -> bytes:
        self.rendered.append(first)
        return b"%d of %d" % (first, self._change)

    async def prepare_speech(self, context: CallContext, parts: Any, speech: str, *rest: Any) -> PreparedSpeech:
        prepared = await super().prepare_speech(context, parts, speech, *rest)
        samples = np.load(on_disk(self._files, speech))
        samples[40_000:] += self._change
        np.save(on_disk(self._files, speech), samples)
        return prepared

    async def plan(self, context: CallContext, speech: PreparedSpeech, request: BlockRequest, state: Any) -> ShownBlock:
        shown = await super().plan(context, speech, request, state)
        frames = np.arange(request.span.first, request.span.stop)
        plan: Any = shown.planned.plan
        plan.exemplar[(frames >= 60) & (frames < 65)] = self._change
        return shown

    async def join(self, context: CallContext, segments: Any, *rest: Any) -> None:
        self.joined = [on_disk(self._files, segment).read_text() for segment in segments]
        output: OutputInfo = rest[-1]
        self.pieces = output.pieces, output.earlier_pieces
        assert output.pieces is not None
        await asyncio.to_thread(self._files.stored.put, output.pieces, b"sound")
        await super().join(context, segments, *rest)


class Films(RunBench):
    """Runs a job and its revisions, each of which differs from the one before in frames [60, 65)."""

    def make(self, change: int, earlier: JobRecord | None = None) -> tuple[JobRecord, ChangedStages, dict[str, Any]]:
        revision_of = None if earlier is None else earlier.id
        job = job_record(avatar_key=KEY, status=JobStatus.RUNNING, revision_of=revision_of)
        self.stages = stages = ChangedStages(self.files, change)
        report = self.run(self.table.insert_job(job))
        self.table.update_job(job.id, status=JobStatus.SUCCEEDED)
        return job, stages, report


@pytest.fixture
def films(files: FileStore, table: JobTable) -> Films:
    table.put_avatar(avatar_record(KEY))
    return Films(files, table)


def test_run_of_a_revision_renders_changed_segments_only(films: Films) -> None:
    first, whole, report = films.make(0)
    assert len(whole.rendered) == 14
    second, revised, revised_report = films.make(1, first)
    assert sorted(revised.rendered) == [50, 62]
    kept = [text for text in revised.joined if text.endswith("of 0")]
    assert len(kept) == 14 - len(revised.rendered) and set(kept) < set(whole.joined)
    assert revised_report == report, "it counts the motion of reused segments"
    _, third, _ = films.make(0, second)
    assert third.rendered == [], "it finds those of the first"
    _, other, _ = films.make(0)
    assert len(other.rendered) == 14, "it is no revision"


def test_run_of_a_revision_joins_with_the_latest_sound(films: Films, files: FileStore) -> None:
    first, whole, _ = films.make(0)
    assert whole.pieces == (sound_key(first.id), None)
    second, revised, _ = films.make(1, first)
    assert revised.pieces == (sound_key(second.id), sound_key(first.id))
    files.stored.remove(sound_key(second.id))
    third, revised, _ = films.make(2, second)
    assert revised.pieces == (sound_key(third.id), sound_key(first.id))


def test_run_of_a_revision_reports_reused_segments_by_block(
    films: Films, table: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _, _ = films.make(0)
    update = Mock(side_effect=table.update_job)
    monkeypatch.setattr(table, "update_job", update)
    films.make(0, first)
    reported = [call.kwargs["num_frames_done"] for call in update.mock_calls if "num_frames_done" in call.kwargs]
    assert reported == [0, 50, 100, 150, 175], "blocks of 50 frames"


def test_run_of_a_revision_renders_damaged_segments_again(films: Films, files: FileStore) -> None:
    first, _, _ = films.make(0)
    path = on_disk(files, segment_key(first.id, 3))
    path.write_bytes(b"x" * path.stat().st_size)
    _, revised, _ = films.make(0, first)
    assert len(revised.rendered) == 1


LEVEL = SpeechLevel(100, 1.0, -20.0)


@pytest.mark.parametrize(
    ("gain", "speech_db", "is_kept"),
    [(1.05, -20.5, True), (1.3, -20.0, False), (1.0, -21.5, False), (0.8, -20.0, False)],
)
def test_similar_level_keeps_levels_within_1_db(gain: float, speech_db: float, is_kept: bool) -> None:
    level = similar_level(LEVEL, StoredLevel(gain=gain, speech_db=speech_db))
    assert (level.gain, level.speech_db) == ((gain, speech_db) if is_kept else (1.0, -20.0))
    assert level.num_samples == 100


TEXTS = ("One.", "Two.", "Three.")


def _turn(number: int, **fields: Any) -> PlannedTurn:
    """A recorded text from second 2 n on, that was sent without an end."""
    start = 2.0 * number
    placed = {"end": start + 1, "audio": "audio", "audio_start": float(number), "speed": 1.1, "cut_seconds": None}
    recorded = Recording(start=start, slot_end=None, latest=start + 2 if number < 2 else 7.0, **placed)
    spoken = {"natural_seconds": 1.1, "cue": f"{number:032x}", "recorded": recorded}
    return PlannedTurn(**{"start": start, "text": TEXTS[number], "voice": "nova", **placed, **spoken, **fields})


class FilmAvatars(IntactAvatars):
    record = Avatars.record

    async def source(self, key: str) -> SourceVideo:
        return SourceVideo(source_key(KEY), FILM)


class Bench(JobBench):
    def __init__(self, files: FileStore, table: JobTable) -> None:
        self.stages = SpeakingStages(files)
        super().__init__(files, table, self.stages, CONFIG, FilmAvatars)
        self.revisions = Revisions(self.services, self.submissions)

    def finished(self, status: JobStatus = JobStatus.SUCCEEDED, **fields: Any) -> JobRecord:
        """A job with three texts that has ended."""
        spec = JobSpec(avatar_id="a", turns=tuple(Turn(start=0, text=text) for text in TEXTS))
        options = JobOptions(engine="warp", turns=tuple(_turn(number) for number in range(3)), loop="source")
        job = job_record(**{"options": options, "avatar_key": KEY, "spec": spec, "watermark_id": "ab" * 8, **fields})
        for key in (job_file_key(job.id), source_key(KEY), f"{job_cues_folder(job.id)}/{0:032x}"):
            on_disk(self.files, key).write_bytes(b"abc")
        self.table.insert_job(job)
        if status is not JobStatus.QUEUED:
            self.table.update_job(job.id, status=JobStatus.RUNNING)
            self.table.update_job(job.id, status=status)
        return self.table.get_job(job.id)

    def revise(self, job: JobRecord, **changes: Any) -> JobRecord:
        return asyncio.run(self.revisions.revise(job, new_id(), Revision(**changes)))

    def complete(self, job: JobRecord) -> JobRecord:
        return asyncio.run(SpeakingStage(self.services).complete(job, FILM))


@pytest.fixture
def bench(files: FileStore, table: JobTable) -> Bench:
    table.put_avatar(avatar_record(KEY))
    return Bench(files, table)


def test_revise_changed_turn_keeps_other_recordings(bench: Bench) -> None:
    job = bench.finished()
    revised = bench.revise(job, turns=[{"number": 1, "text": "Other."}])
    assert (revised.revision_of, revised.watermark_id, revised.status) == (job.id, "ab" * 8, JobStatus.QUEUED)
    assert not revised.plan.is_complete and revised.plan.turns[1].end is None, "as it was sent"
    complete = bench.complete(revised)
    assert complete.plan.is_complete and complete.watermark_id == "ab" * 8
    assert bench.stages.texts == ["Other."] and bench.stages.recorded == [(2.0, "audio_synthesized")]
    stored = bench.table.get_job(revised.id)
    assert (stored.plan, stored.num_cues, stored.num_cues_done) == (complete.plan, 1, 1)
    first, second, third = complete.plan.turns
    assert (first, third) == (job.plan.turns[0], job.plan.turns[2])
    assert (second.text, second.audio, second.audio_start, second.end) == ("Other.", "audio_synthesized", 0.0, 2.6)
    assert set(complete.plan.audio) == {"audio", "audio_synthesized"}
    bench.stages.recorded.clear()
    moved = bench.complete(bench.revise(job, turns=[{"number": 1, "start": 2.5}]))
    assert [start for start, _ in bench.stages.recorded] == [0.0, 2.5], "the one before has more time"
    assert moved.plan.turns[2].audio == "audio"


def test_revise_of_a_revision_drops_unused_recordings(bench: Bench) -> None:
    job = bench.finished()
    for text in ("Second.", "Third."):
        job = bench.complete(bench.revise(job, turns=[{"number": 1, "text": text}]))
        for status in (JobStatus.RUNNING, JobStatus.SUCCEEDED):
            bench.table.update_job(job.id, status=status)
        job = bench.table.get_job(job.id)
    assert set(job.plan.audio) == {"audio", "audio_synthesized-2"}


def test_revise_counts_numbers_of_the_finished_job(bench: Bench) -> None:
    added = {"text": "Four.", "start": 1.2}
    changes = {"turns": [{"number": 2, "gain_db": 3}], "removed_turns": [0], "added_turns": [added]}
    revised = bench.complete(bench.revise(bench.finished(), **changes))
    assert [(turn.text, turn.gain_db) for turn in revised.plan.turns] == [("Four.", 0), ("Two.", 0), ("Three.", 3)]
    assert bench.stages.texts == ["Four."]
    revised = bench.complete(bench.revise(bench.finished(), removed_turns=[0, 1, 2], added_turns=[added]))
    assert [turn.text for turn in revised.plan.turns] == ["Four."]


def test_revise_with_a_first_text_can_show_and_review_it(bench: Bench) -> None:
    spec = JobSpec(avatar_id="a", audio=SOUND, turns=(Turn(start=0, end=1),))
    turns = (PlannedTurn(start=0, end=1),)
    job = bench.finished(spec=spec, options=JobOptions(engine="warp", turns=turns, loop="source"))
    job = job.model_copy(update={"plan": job.plan.model_copy(update={"audio_seconds": {"audio": 3.0}})})
    added, settings = {"text": "Four.", "start": 3}, {"subtitles_output": "track"}
    revised = bench.revise(job, added_turns=[added], settings=settings, review=True)
    assert revised.options.subtitles == "track" and revised.plan.needs_review
    with pytest.raises(OptionError, match="needs turns with texts"):
        bench.revise(job, settings=settings)


def test_revise_settings_keeps_every_recording(bench: Bench) -> None:
    revised = bench.revise(bench.finished(), settings={"loudness_lufs": -16, "subtitles_output": "track"})
    assert (revised.options.loudness_lufs, revised.options.subtitles) == (-16, "track")
    assert revised.spec is not None and revised.spec.loudness_lufs == -16
    assert bench.complete(revised).plan.turns == bench.finished().plan.turns
    assert bench.stages.recorded == []


@pytest.mark.parametrize(("changes", "spoken"), [({}, []), ({"turns": [{"number": 0, "text": "New."}]}, ["New."])])
def test_revise_with_review_stops_for_review(bench: Bench, changes: dict[str, Any], spoken: list[str]) -> None:
    revised = bench.complete(bench.revise(bench.finished(), review=True, **changes))
    assert revised.plan.needs_review and not revised.plan.is_complete
    assert [turn.end for turn in revised.plan.turns] == [None, None, None]
    assert bench.stages.texts == spoken and bench.stages.recorded == []


def test_revise_single_speech_changes_settings(bench: Bench) -> None:
    spec = JobSpec(avatar_id="a", audio=SOUND)
    job = bench.finished(spec=spec, options=JobOptions(engine="warp"))
    revised = bench.revise(job, settings={"visible_label": True})
    assert revised.options.visible_label and revised.plan.is_complete
    with pytest.raises(OptionError, match="has none"):
        bench.revise(job, turns=[{"number": 0, "gain_db": 1}])
    with pytest.raises(OptionError, match="review needs turns with texts"):
        bench.revise(job, review=True)


@pytest.mark.parametrize(
    ("fields", "advice"),
    [
        ({"status": JobStatus.QUEUED}, "Wait until"),
        ({"status": JobStatus.REVIEW}, "Change its turns"),
        ({"status": JobStatus.FAILED}, "Retry it"),
        ({"status": JobStatus.CANCELLED}, "Submit it again"),
    ],
)
def test_revise_job_in_a_wrong_state_is_refused(bench: Bench, fields: dict[str, Any], advice: str) -> None:
    with pytest.raises(StateError, match=advice):
        bench.revise(bench.finished(**fields), removed_turns=[0])


@pytest.mark.parametrize("gone", ["audio", "source", "avatar"])
def test_revise_job_without_files_is_refused(bench: Bench, gone: str) -> None:
    job = bench.finished()
    if gone == "avatar":
        bench.table.delete_avatar(KEY)
    else:
        bench.files.stored.remove(job_file_key(job.id) if gone == "audio" else source_key(KEY))
    with pytest.raises(NotFoundError, match="files of job"):
        bench.revise(job, removed_turns=[0])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"turns": [{"number": 3, "text": "x"}]}, NotFoundError, "no turn 3"),
        ({"removed_turns": [0, 1, 2]}, OptionError, "last turn"),
        ({"turns": [{"number": 1, "start": 9}]}, OptionError, "the video ends at 7 s"),
        ({"turns": [{"number": 1, "start": 4}]}, OptionError, "overlap"),
        ({"settings": {"music_gain_db": -3}}, OptionError, "no music"),
        ({"settings": {"loudness_lufs": 3}}, OptionError, "settings.loudness_lufs: "),
    ],
)
def test_revise_impossible_changes_are_refused(
    bench: Bench, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bench.revise(bench.finished(), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"removed_turns": [1, 1]}, "only once"),
        ({"turns": [{"number": 1, "text": "x"}], "removed_turns": [1]}, "only once"),
        ({"settings": {"visible_label": None}}, "visible_label"),
        ({"settings": {"crf": 3}}, "crf"),
    ],
)
def test_revision_without_a_valid_change_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Revision(**changes)


def test_revise_with_clips_plans_its_actions_again(bench: Bench) -> None:
    job = bench.finished()
    wave = AvatarClip(kind="action", key=KEY, created_at=utc_now())
    clips = {"": wave.model_copy(update={"kind": None}), "wave": wave}
    plan = job.plan.with_options(loop="natural").model_copy(update={"clips": clips, "actions": (), "seed": 3})
    job = job.model_copy(update={"plan": plan, "avatar_key": "c" * 32})  # evicted
    revised = bench.revise(job, turns=[{"number": 1, "text": "Other. [wave] Yes."}])
    assert bench.table.find_avatar(revised.avatar_key) is not None
    complete = bench.complete(revised)
    assert "Other. Yes." in bench.stages.texts
    assert (complete.plan.turns[1].actions, complete.plan.actions, complete.plan.seed) == (((7, "wave"),), None, 3)
    with pytest.raises(OptionError, match="has only one face"):
        bench.revise(job, turns=[{"number": 1, "face": "person:1"}])
