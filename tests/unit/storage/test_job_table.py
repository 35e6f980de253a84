"""The job table on a real file and on a real PostgreSQL: order, versions, endings, restarts."""

from __future__ import annotations

from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lipwright.errors import ConfigError, NotFoundError, StateError, StorageFullError
from lipwright.jobs.model.base import ErrorRecord, new_id, utc_now
from lipwright.jobs.model.clip import AvatarClip
from lipwright.jobs.model.plan import JobOptions
from lipwright.jobs.model.record import CallbackRecord, CallbackStatus, JobQuery, JobStage, JobStatus
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.model.turns import PlannedTurn, Turn
from lipwright.storage import schema
from lipwright.storage.job_table import JobTable
from lipwright.storage.row_codec import (
    AvatarInfo,
    AvatarStatus,
    SegmentRecord,
    SegmentStatus,
    avatar_key,
)
from lipwright.storage.schema import SCHEMA_VERSION, statements_after
from lipwright.storage.sqlite.database import Database as FileDatabase
from tests.unit.job_records import SOUND, avatar_record, job_record
from tests.unit.storage.conftest import Again


def test_job_comes_back_as_it_was(again: Again) -> None:
    error = ErrorRecord(code="internal", message="{not json", retryable=True)
    turns = (PlannedTurn(start=0, end=1.5), PlannedTurn(face="index:1", start=1.5, end=2, audio="audio_b"))
    options = JobOptions(engine="warp", face="{", loop="hold", turns=turns, idle_mouths="closed")
    report = {"source": {"audio_offset_ms": None, "talks": True}, "warnings": ["12 frames \u2026"], "ratio": 0.5}
    texts: dict[str, Any] = {"owner": "{x", "idempotency_key": "{", "more_audio": {"audio_b": SOUND}}
    spec = JobSpec(audio=SOUND, avatar_id="a", face="{", expressiveness=1, turns=(Turn(start=0, end=1.5),))
    texts |= {"turn_avatar_keys": {"index:1": "2" * 32}, "spec": spec}
    job = job_record(error=error, report=report, options=options, progress=0.25, attempts=2, **texts)
    first = JobTable(again())
    first.insert_job(job)
    second = JobTable(again())
    found = second.get_job(job.id)
    assert found == job.model_copy(update={"queue_position": 0})
    assert found.spec.model_fields_set == spec.model_fields_set, "as it was sent"
    assert second.find_job("{x", "{") is not None
    first.update_job(job.id, status=JobStatus.RUNNING, progress=0.5)
    (listed,) = second.list_jobs(JobQuery(limit=9)).jobs
    assert (listed.status, listed.progress, listed.queue_position) == (JobStatus.RUNNING, 0.5, None)
    first.delete_job(job.id)
    assert second.list_jobs(JobQuery(limit=9)).jobs == []


def test_queue_order_and_positions(table: JobTable) -> None:
    slow, fast, late = (table.insert_job(job_record(priority=priority)) for priority in (0, 5, 0))
    assert [job.id for job in table.queued_jobs()] == [fast.id, slow.id, late.id]
    assert [table.get_job(job.id).queue_position for job in (fast, slow, late)] == [0, 1, 2]
    running = table.update_job(fast.id, status=JobStatus.RUNNING)
    assert running.queue_position is None and running.started_at is not None
    assert table.get_job(late.id).queue_position == 1
    assert [job.id for job in table.unfinished_jobs()] == [slow.id, fast.id, late.id]
    assert [job.id for job in table.list_jobs(JobQuery(limit=2)).jobs] == [late.id, fast.id]
    assert (table.count_jobs(JobStatus.QUEUED), table.count_jobs(JobStatus.RUNNING)) == (2, 1)


def test_lists_leave_out_turns_and_report(table: JobTable) -> None:
    turns = (PlannedTurn(start=0, text="Said once."),) * 3
    options = JobOptions(engine="warp", format="webm", turns=turns, idle_mouths="source")
    job = table.insert_job(job_record(options=options, report={"ratio": 0.5}, metadata={"order": "17"}))
    running = table.insert_job(job_record(options=options, status=JobStatus.RUNNING))
    done = table.insert_job(job_record(options=options, status=JobStatus.SUCCEEDED, finished_at=utc_now()))
    listed = table.list_jobs(JobQuery(limit=9)).jobs
    assert {each.id for each in listed} == {job.id, running.id, done.id}
    for summary in (*listed, *table.queued_jobs(), *table.unfinished_jobs(), *table.last_succeeded(9)):
        whole, fields = table.get_job(summary.id), type(summary).model_fields
        assert whole.options == options and summary.format == "webm"
        assert not {"spec", "plan", "report"} & fields.keys()
        assert all(getattr(summary, name) == getattr(whole, name) for name in fields)


def test_list_jobs_page_bounded_by_bytes(table: JobTable) -> None:
    metadata = {str(number): "x" * 512 for number in range(1200)}
    ids = [table.insert_job(job_record(metadata=metadata)).id for _ in range(4)]
    small = table.insert_job(job_record()).id
    pages = [table.list_jobs(JobQuery(limit=500))]
    while (after := pages[-1].next_after) is not None:
        pages.append(table.list_jobs(JobQuery(limit=500, after=after)))
    assert [len(page.jobs) for page in pages] == [2, 1, 1, 1], "1 MiB has room for one job with 615 KB"
    assert [job.id for page in pages for job in page.jobs] == [small, *reversed(ids)]


def test_list_jobs_after_id_and_oldest_first(table: JobTable) -> None:
    ids = [table.insert_job(job_record(owner="a")).id for _ in range(4)]
    after = table.list_jobs(JobQuery(limit=2, after_id=ids[2]))
    assert [job.id for job in after.jobs] == [ids[1], ids[0]] and after.next_after is None
    oldest = table.list_jobs(JobQuery(limit=2, after_id=ids[0], oldest_first=True))
    assert [job.id for job in oldest.jobs] == ids[1:3]
    rest = table.list_jobs(JobQuery(limit=2, after=oldest.next_after, oldest_first=True))
    assert [job.id for job in rest.jobs] == ids[3:]
    with pytest.raises(NotFoundError, match="after"):
        table.list_jobs(JobQuery(limit=2, owner="b", after_id=ids[0]))


def test_an_owner_sees_its_own_alone(table: JobTable) -> None:
    mine, other = table.insert_job(job_record(owner="a")), table.insert_job(job_record(owner="b"))
    assert table.get_job(mine.id, "a") == table.get_job(mine.id)
    with pytest.raises(NotFoundError):
        table.get_job(other.id, "a")
    assert [job.id for job in table.list_jobs(JobQuery(limit=9, owner="a")).jobs] == [mine.id]
    assert len(table.list_jobs(JobQuery(limit=9, status=JobStatus.QUEUED)).jobs) == 2
    avatar = table.put_avatar(avatar_record("1" * 32, owner="b", pinned=True))
    assert table.list_avatars(owner="a") == []
    with pytest.raises(NotFoundError):
        table.get_avatar(avatar.id, "a")


def test_a_webhook_is_due_when_its_job_ends(table: JobTable) -> None:
    job, other, _ = (table.insert_job(job_record(callback_url=url)) for url in ("https://example.org/hook", None, None))
    assert table.pending_callbacks(9) == []
    for each in (other, job):
        table.update_job(each.id, status=JobStatus.SUCCEEDED)
    (due,) = table.pending_callbacks(9)
    finished = table.finished_jobs(utc_now(), 9)
    assert [each.id for each in finished] == [other.id], "a job whose webhook is due is not swept"
    assert due == table.get_job(job.id).callback and due.job_id == job.id
    table.put_callback(due.model_copy(update={"status": CallbackStatus.DELIVERED, "attempts": 1}))
    assert table.pending_callbacks(9) == []
    assert [swept.id for swept in table.finished_jobs(utc_now(), 9)] == [other.id, job.id], "as they ended"
    assert [each.id for each in table.last_succeeded(1)] == [job.id]
    ended = table.get_job(other.id).finished_at
    assert ended is not None and table.finished_jobs(ended, 9) == []
    table.delete_job(job.id)
    assert table.find_callback(job.id) is None
    table.put_callback(due)
    assert table.find_callback(job.id) is None, "nothing comes back for a job that was swept"


def test_pending_callbacks_alternates_between_owners(table: JobTable) -> None:
    jobs = {owner: [table.insert_job(job_record(owner=owner)) for _ in range(3)] for owner in ("a", "b", None)}
    start = utc_now()
    for number, job in enumerate(chain.from_iterable(jobs.values())):
        due_at = start + timedelta(seconds=number)
        table.put_callback(CallbackRecord(job_id=job.id, next_at=due_at))
    expected = [jobs[owner][turn].id for turn in range(2) for owner in jobs]
    assert [each.job_id for each in table.pending_callbacks(2)] == expected


def test_a_full_disk_is_said_by_name(tmp_path: Path) -> None:
    database = FileDatabase(tmp_path / "t")
    table = JobTable(database)
    database._connection.execute("PRAGMA max_page_count = 12")  # a quota in the place of a disk
    with pytest.raises(StorageFullError):
        for _ in range(200):
            table.insert_job(job_record())
    assert table.count_jobs(JobStatus.QUEUED) == len(table.queued_jobs())


def test_update_raises_the_version_and_checks_fields(table: JobTable) -> None:
    job = table.insert_job(job_record())
    changed = table.update_job(job.id, stage=JobStage.RENDERING, num_frames=100, progress=0.5)
    assert (changed.version, changed.stage, changed.num_frames) == (job.version + 1, JobStage.RENDERING, 100)
    with pytest.raises(ValidationError):
        table.update_job(job.id, colour="blue")
    with pytest.raises(ValidationError):
        table.update_job(job.id, progress=1.5)
    assert table.get_job(job.id).version == changed.version
    with pytest.raises(NotFoundError):
        table.update_job(new_id(), progress=0.5)
    cancelled = table.update_job(job.id, status=JobStatus.CANCELLED)
    assert cancelled.finished_at is not None
    assert table.update_job(job.id, status=JobStatus.SUCCEEDED, progress=1.0) == cancelled, "the first end stays"
    assert table.unfinished_jobs() == []


def test_idempotency_key_is_unique_for_its_owner(table: JobTable) -> None:
    job = table.insert_job(job_record(owner="a", idempotency_key="k"))
    table.insert_job(job_record(owner="b", idempotency_key="k"))
    with pytest.raises(StateError):
        table.insert_job(job_record(owner="a", idempotency_key="k"))
    found = table.find_job("a", "k")
    assert found is not None and found.id == job.id
    assert table.find_job(None, "k") is None
    with pytest.raises(StateError, match="keeps its idempotency key"):
        table.release_idempotency_key(job.id)
    table.update_job(job.id, status=JobStatus.SUCCEEDED)
    for _ in range(2):
        table.release_idempotency_key(job.id)
        assert table.find_job("a", "k") is None, "a finished job gives it away"
    again = table.insert_job(job_record(owner="a", idempotency_key="k"))
    found = table.find_job("a", "k")
    assert found is not None and found.id == again.id


def test_segments(table: JobTable) -> None:
    job = table.insert_job(job_record())
    for number in (1, 0, 2):
        table.record_segment(SegmentRecord(job_id=job.id, number=number, start=number * 9, stop=number * 9 + 9))
    done = SegmentRecord(job_id=job.id, number=1, start=9, stop=18, status=SegmentStatus.DONE, num_bytes=7, attempts=2)
    table.record_segment(done)
    assert table.finished_segments(job.id) == [done]
    table.delete_job(job.id)
    assert table.finished_segments(job.id) == []


def test_avatars(table: JobTable) -> None:
    key = avatar_key("00", "largest", "1")
    avatar = table.put_avatar(avatar_record(key, face="{", label="v.mp4"))
    assert table.get_avatar(avatar.id) == table.find_avatar(key) == avatar
    assert table.put_avatar(avatar_record(key)).id == avatar.id, "a key keeps its id"
    info = AvatarInfo(width=64, height=48, fps="25", num_frames=9, duration_seconds=0.36, is_still=False, talks=True)
    ready = table.update_avatar(key, status=AvatarStatus.READY, info=info, pinned=True)
    assert table.list_avatars() == [ready] and ready.info == info
    table.touch_avatar(key)
    assert table.get_avatar(avatar.id).last_used_at > ready.last_used_at
    table.delete_avatar(key)
    with pytest.raises(NotFoundError):
        table.get_avatar(avatar.id)


def test_surplus_avatars_are_the_least_used_that_nobody_needs(table: JobTable) -> None:
    keys = [avatar_key(str(number), "largest", "1") for number in range(5)]
    for number, key in enumerate(keys):
        table.put_avatar(avatar_record(key, pinned=number == 0))
    job = table.insert_job(job_record(avatar_key=keys[1]))
    table.touch_avatar(keys[2])
    assert [avatar.key for avatar in table.surplus_avatars(1)] == [keys[4], keys[3]]
    assert table.surplus_avatars(3) == []
    of_turn = table.insert_job(job_record(avatar_key=keys[1], turn_avatar_keys={"index:1": keys[3]}))
    assert [avatar.key for avatar in table.surplus_avatars(1)] == [keys[4]]
    for each in (job, of_turn):
        table.update_job(each.id, status=JobStatus.FAILED)
    assert keys[1] in [avatar.key for avatar in table.surplus_avatars(1)]


def test_surplus_avatars_keep_clips_and_parts_that_jobs_need(table: JobTable) -> None:
    own, clip, old_clip = (avatar_record() for _ in range(3))
    parts = {
        name: AvatarClip(kind="idle", key=row.key, created_at=row.created_at)
        for name, row in (("", own), ("a", clip), ("b", old_clip))
    }
    table.put_avatar(own.model_copy(update={"clips": {"a": parts["a"]}}))
    for row in (clip, old_clip):
        table.put_avatar(row.model_copy(update={"belongs_to": own.key}))
    composite, old_composite = (
        avatar_record(parts={"": parts[""], name: parts[name]}, belongs_to=own.key, graph=[[["a", None, 0, 1.5]], []])
        for name in ("a", "b")
    )
    for row in (composite, old_composite):
        table.put_avatar(row)
    assert table.get_avatar(composite.id).graph == [[["a", None, 0, 1.5]], []]

    def surplus(max_cached: int) -> set[str]:
        return {avatar.key for avatar in table.surplus_avatars(max_cached)}

    remains = {old_clip.key, old_composite.key}
    assert surplus(9) == remains, "a deleted clip, and what was made with it"
    assert surplus(0) == {own.key, composite.key} | remains
    job = table.insert_job(job_record(avatar_key=old_composite.key))
    assert surplus(0) == {composite.key}, "the job needs the composite and its parts"
    table.update_job(job.id, status=JobStatus.FAILED)
    table.delete_avatar(own.key)
    assert surplus(9) == {clip.key, composite.key} | remains, "they belonged to an avatar that is deleted"


@pytest.mark.parametrize(
    ("version", "message"), [(25, r"found 25 .* start with a new data folder"), (9999, "found 9999; update")]
)
def test_open_table_of_another_version_is_refused(again: Again, version: int, message: str) -> None:
    database = again()
    with database.transaction():
        database.execute(
            f"UPDATE schema_version SET number = {version}"
            if database.is_shared
            else f"PRAGMA user_version = {version}"
        )
    with pytest.raises(ConfigError, match=f"Expected a job table of version {SCHEMA_VERSION}.*, {message}"):
        again().query("SELECT 1")  # a shared database connects when it is used


def test_statements_after_first_version_are_later_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert statements_after(SCHEMA_VERSION) == ()
    created = statements_after(0)
    monkeypatch.setattr(schema, "_STEPS", (created, ("A", "B"), ("C",)))
    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 2)
    steps = [statements_after(version) for version in (0, *range(SCHEMA_VERSION, SCHEMA_VERSION + 3))]
    assert steps == [(*created, "A", "B", "C"), ("A", "B", "C"), ("C",), ()]


def test_nul_in_an_id_matches_nothing(table: JobTable) -> None:
    with pytest.raises(NotFoundError):
        table.get_job("a\0b")


def test_get_job_with_large_plan_reads_the_plan_once(table: JobTable) -> None:
    job = job_record()
    turns = [PlannedTurn(start=number, text="Good evening. " * 4) for number in range(2000)]
    table.insert_job(job.model_copy(update={"plan": job.plan.with_turns(turns)}))
    first, second = table.get_job(job.id), table.get_job(job.id)
    assert first.plan is second.plan and len(first.plan.turns) == 2000
    table.update_job(job.id, plan=job.plan.with_turns(turns[:1000]))
    assert len(table.get_job(job.id).plan.turns) == 1000
