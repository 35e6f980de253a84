"""API keys and their usage, browser tokens, and what the queue costs: in a folder and in both databases."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import subprocess
import sys
import timeit
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from lipwright.errors import (
    ConfigError,
    ForbiddenError,
    KeyLimitError,
    NotFoundError,
    StandbyError,
    StateError,
    TableUnreachableError,
    UnauthorizedError,
)
from lipwright.jobs.model.base import utc_now
from lipwright.jobs.model.browser_token import TokenGrant
from lipwright.jobs.model.compute import ComputeTime, Metered, metered, received
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.model.usage import LiveUsage, Usage
from lipwright.storage.job_table import JobTable
from lipwright.storage.key_ring import webhook_secret
from lipwright.storage.local.api_keys import FileKeyRing
from lipwright.storage.postgres.database import Database as SharedDatabase
from lipwright.storage.postgres.keys import PostgresKeyRing
from lipwright.storage.protocols import Database
from lipwright.storage.row_codec import SegmentRecord, SegmentStatus
from lipwright.storage.state import open_keys, webhook_secrets
from lipwright.storage.token_sessions import TokenSessions
from tests.postgres import PostgresServer
from tests.unit.job_records import job_record
from tests.unit.storage.conftest import Again

TODAY = utc_now().date()


def usage_of(table: JobTable, owner: str = "a") -> Usage:
    return table.usage.total(owner, TODAY)


def spend(cpu_seconds: float, gpu_seconds: float = 0.0) -> None:
    received(Metered(None, ComputeTime(cpu_seconds, gpu_seconds)))


def segment(job: JobRecord, number: int, status: SegmentStatus = SegmentStatus.DONE) -> SegmentRecord:
    return SegmentRecord(job_id=job.id, number=number, start=0, stop=25, status=status)


def test_record_segment_twice_counts_once(table: JobTable) -> None:
    job = table.insert_job(job_record(owner="a"))
    for number, status in ((0, SegmentStatus.PENDING), (0, SegmentStatus.DONE), (0, SegmentStatus.DONE), (1, "done")):
        with metered():
            spend(2.0, 0.5)
            table.record_segment(segment(job, number, SegmentStatus(status)), 4.0)
    expected = Usage(jobs_submitted=1, video_seconds=8, cpu_seconds=4, gpu_seconds=1)
    assert usage_of(table) == expected
    table.update_job(job.id, status=JobStatus.CANCELLED)
    table.delete_job(job.id)
    assert usage_of(table) == expected.model_copy(update={"jobs_cancelled": 1}), "without the rows of the job"


def test_update_job_counts_each_end_once(table: JobTable) -> None:
    ends = [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.FAILED, JobStatus.CANCELLED]
    for end in ends:
        job = table.insert_job(job_record(owner="a"))
        for status in (JobStatus.RUNNING, JobStatus.QUEUED, JobStatus.RUNNING, end, JobStatus.CANCELLED, end):
            table.update_job(job.id, status=status)
    with pytest.raises(StateError):
        table.insert_job(job)  # the same row again
    assert usage_of(table) == Usage(jobs_submitted=4, jobs_succeeded=1, jobs_failed=2, jobs_cancelled=1)
    assert usage_of(table, "b") == Usage()


def test_new_director_counts_only_what_the_first_one_lacks(again: Again) -> None:
    first = JobTable(again())
    first.database.claim()
    job = first.insert_job(job_record(owner="a", result_seconds=8.0))
    first.update_job(job.id, status=JobStatus.RUNNING)
    first.record_segment(segment(job, 0), 4.0)
    second = JobTable(again())
    second.database.claim()
    with metered():
        spend(3.0)
        for change in (
            first.database.check_claim,
            lambda: first.record_segment(segment(job, 1), 4.0),
            lambda: first.update_job(job.id, status=JobStatus.SUCCEEDED),
        ):
            with pytest.raises(StandbyError, match="Another Director"):
                change()
        second.database.check_claim()
        assert first.get_job(job.id).status is JobStatus.RUNNING, "reading is free"
        second.update_job(job.id, status=JobStatus.QUEUED)  # in this test, both measure in one context
    second.update_job(job.id, status=JobStatus.RUNNING)
    for number in (0, 1):
        second.record_segment(segment(job, number), 4.0)
    second.update_job(job.id, status=JobStatus.SUCCEEDED)
    assert usage_of(second) == Usage(jobs_submitted=1, jobs_succeeded=1, video_seconds=8, cpu_seconds=3)


def test_record_live_adds_up_totals_once(table: JobTable) -> None:
    checked, refuse = Mock(), Mock(side_effect=KeyLimitError("The limit live_sessions of this API key is 0."))

    def report(seconds: float, check: Mock = checked, **fields: object) -> None:
        compute = ComputeTime(seconds / 2, 0.0)
        live = LiveUsage(session_id="s", owner="a", live_seconds=seconds, compute=compute).model_copy(update=fields)
        table.usage.record_live(live, check)

    with pytest.raises(KeyLimitError):
        report(0.0, refuse)
    assert not table.usage.num_live_sessions("a", utc_now())
    for seconds in (0.0, 30.0, 30.0, 25.0, 60.0):  # one arrives twice, one late
        report(seconds)
    assert checked.call_count == 1, "only the first report is checked"
    report(20.0, session_id="t")
    assert table.usage.num_live_sessions("a", utc_now()) == 2
    assert table.usage.num_live_sessions("a", utc_now() + timedelta(minutes=3)) == 0, "their Ingress is gone"
    report(65.0, is_over=True)
    report(65.0, is_over=True)
    report(60.0)
    assert table.usage.num_live_sessions("a", utc_now()) == 1
    assert usage_of(table) == Usage(live_seconds=85, cpu_seconds=42.5)


def test_rows_are_those_of_the_owner_and_the_days(table: JobTable) -> None:
    with table.database.transaction():
        for owner in ("b", "a", None):
            table.usage.add(owner, Usage(video_seconds=0.1))
            table.usage.add(owner, Usage(video_seconds=0.2))
        table.database.execute("UPDATE usage SET day = '2020-02-29' WHERE owner = 'b'")
    rows = table.usage.rows(TODAY, TODAY)
    assert [(row.day, row.key, row.video_seconds) for row in rows] == [(TODAY, None, 0.3), (TODAY, "a", 0.3)]
    first = TODAY.replace(year=2020, month=2, day=29)
    assert [row.key for row in table.usage.rows(first, TODAY)] == ["b", None, "a"]
    assert [row.key for row in table.usage.rows(first, TODAY, "b")] == ["b"]


@pytest.mark.parametrize(
    ("lengths", "share"), [({"a": 5.0, "b": 5.0, "c": 5.0}, 30), ({"a": 60.0, "b": 7.0, "c": 5.0}, 100)]
)
def test_queue_shares_seconds_in_proportion_to_weights(again: Again, lengths: dict[str, float], share: int) -> None:
    weights = {"a": 1, "b": 2, "c": 4}
    table = JobTable(again(), weight_of=lambda owner: weights[owner or ""])
    served = Counter[str]()
    for owner in weights:
        for _ in range(2):
            table.insert_job(job_record(owner=owner, result_seconds=lengths[owner]))
    while served.total() < share * sum(weights.values()):
        job = table.queued_jobs()[0]
        owner = job.owner or ""
        table.update_job(job.id, status=JobStatus.RUNNING)
        table.update_job(job.id, status=JobStatus.SUCCEEDED)
        table.delete_job(job.id)
        table.insert_job(job_record(owner=owner, result_seconds=lengths[owner]))
        served[owner] += round(job.result_seconds)
    longest = max(lengths.values())
    assert served == {owner: pytest.approx(share * weight, abs=longest) for owner, weight in weights.items()}


def test_queue_owner_that_was_idle_saves_up_no_turns(table: JobTable) -> None:
    for _ in range(20):
        job = table.insert_job(job_record(owner="a", result_seconds=10.0))
        table.update_job(job.id, status=JobStatus.RUNNING)
    for owner in ("b", "b", "a", "a"):
        table.insert_job(job_record(owner=owner, result_seconds=10.0))
    assert [job.owner for job in table.queued_jobs()] == ["b", "b", "a", "a"]
    table.update_job(table.queued_jobs()[0].id, status=JobStatus.RUNNING)
    assert [job.owner for job in table.queued_jobs()] == ["b", "a", "a"]


@pytest.fixture
def database(again: Again) -> Database:
    database = again()
    database.claim()
    return database


def grant(**fields: Any) -> TokenGrant:
    standard = {"id": "t1", "avatar_id": "a", "origin": "https://a.example", "expires_at": 1000}
    return TokenGrant.model_validate(standard | fields)


def test_start_grants_the_sessions_and_seconds_of_a_token(database: Database) -> None:
    sessions, token = TokenSessions(database, lambda: 0), grant(max_sessions=2, max_session_seconds=60)
    assert [sessions.start(name, token) for name in ("s1", "s1", "s2")] == [60, 60, 60]
    sessions.end("s1", 3)
    with pytest.raises(ForbiddenError, match=r"all of its sessions \(2\)"):
        TokenSessions(database, lambda: 0).start("s3", token)
    other = grant(id="t2", max_sessions=9, max_session_seconds=60, max_seconds=100)
    assert [sessions.start(name, other) for name in ("s3", "s4")] == [60, 40]
    with pytest.raises(ForbiddenError, match=r"The seconds of the token \(100\) are used up"):
        sessions.start("s5", other)
    sessions.end("s3", 5)
    assert sessions.start("s5", other) == 55, "unused seconds are returned"


def test_start_deletes_rows_of_expired_tokens(database: Database) -> None:
    TokenSessions(database, lambda: 0).start("s1", grant())
    TokenSessions(database, lambda: 1001).start("s2", grant(id="t2", expires_at=2000))
    assert [row["session_id"] for row in database.query("SELECT * FROM token_sessions")] == ["s2"]
    with pytest.raises(ForbiddenError, match="has expired"):  # another machine's clock may say it has not
        TokenSessions(database, lambda: 1001).start("s3", grant())


NUM_FINISHED, NUM_QUEUED, NUM_RUNNING = 20_000, 64, 8
NUM_LOOKS = 30  # the fastest counts: others are at work on this machine
MAX_RATIO = 5.0  # a queue that looks at what has ended: 250 in SQLite, 15 in PostgreSQL

LOOKS: dict[str, Callable[[JobTable], object]] = {
    "the queue": JobTable.queued_jobs,
    "a waiting job": lambda table: table.get_job(table.unfinished_jobs()[-1].id),
    "unfinished jobs": JobTable.unfinished_jobs,
    "the last successes": lambda table: table.last_succeeded(20),
}


def _add_finished(table: JobTable, num: int) -> None:
    """Add jobs of two owners that have ended."""
    for owner in ("many", "few"):
        job = table.insert_job(job_record(owner=owner))
        table.update_job(job.id, status=JobStatus.RUNNING)
        table.update_job(job.id, status=JobStatus.SUCCEEDED)
        columns = ", ".join(JobRecord.model_fields.keys() - {"id", "queue_position", "callback"})
        numbers = f"SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {num // 2}"
        copies = f"SELECT id || '-' || n, {columns} FROM jobs, numbers WHERE id = ?1"
        copy = f"WITH RECURSIVE numbers (n) AS ({numbers}) INSERT INTO jobs (id, {columns}) {copies}"
        with table.database.transaction():
            table.database.execute(copy, job.id)


def _looks_s(table: JobTable) -> dict[str, float]:
    """How long each takes, in seconds."""
    return {name: min(timeit.repeat(partial(look, table), number=1, repeat=NUM_LOOKS)) for name, look in LOOKS.items()}


def test_finished_jobs_cost_the_queue_nothing(table: JobTable) -> None:
    _add_finished(table, 40)
    for number in range(NUM_RUNNING + NUM_QUEUED):
        job = table.insert_job(job_record(owner="many" if number % 2 else "few"))
        if number < NUM_RUNNING:
            table.update_job(job.id, status=JobStatus.RUNNING)
    few_s = _looks_s(table)
    _add_finished(table, NUM_FINISHED)
    assert table.count_jobs(JobStatus.QUEUED) == NUM_QUEUED and table.count_jobs(JobStatus.SUCCEEDED) > NUM_FINISHED
    for what, many_s in _looks_s(table).items():
        print(f"\n{what}: {few_s[what] * 1000:.1f} ms, beside {NUM_FINISHED} finished jobs {many_s * 1000:.1f} ms")
        assert many_s < MAX_RATIO * few_s[what], what


def test_a_key_is_known_until_it_is_revoked(tmp_path: Path) -> None:
    keys = FileKeyRing(tmp_path)
    assert keys.list() == []
    made, key = keys.add("a studio", max_priority=1)
    other, _ = keys.add("another")
    assert key.startswith(f"lw_{made.id}_")
    assert (keys.find(key), made.max_priority, other.max_priority) == (made, 1, 0)
    assert [each.name for each in keys.list()] == ["a studio", "another"]
    near_misses = (key[:-1], f"{key}x", key.upper(), key.replace(made.id, other.id), f"lw_{made.id}_", f"{key}\n")
    for wrong in ("", "ü" * 40, *near_misses):
        with pytest.raises(UnauthorizedError):
            keys.find(wrong)
    assert keys.revoke(made.id) == made
    with pytest.raises(UnauthorizedError):
        keys.find(key)
    with pytest.raises(NotFoundError, match="no API key"):
        keys.revoke(made.id)
    assert keys.list() == [other]


@pytest.mark.parametrize("is_new", [True, False])
def test_adding_a_key_keeps_folder_and_secret_private(tmp_path: Path, is_new: bool) -> None:
    umask = os.umask(0o022)
    try:
        if not is_new:
            (tmp_path / "data").mkdir(mode=0o755)
            (tmp_path / "data" / ".api_keys.lock").touch(mode=0o644)
        made, key = FileKeyRing(tmp_path / "data").add("a studio")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()} == {0o600}
    secret = key.removeprefix(f"lw_{made.id}_")
    assert secret not in (tmp_path / "data" / "api_keys.json").read_text()
    assert made.hash == hashlib.sha256(secret.encode()).hexdigest()
    assert len(base64.urlsafe_b64decode(secret)) * 8 >= 160


def test_other_processes_see_every_change(tmp_path: Path, repo_root: Path) -> None:
    """Several add at the same time, and none is lost; a reader that was there before knows them all."""
    reader = FileKeyRing(tmp_path)
    assert reader.list() == []
    add = "for _ in range(5): print(FileKeyRing(pathlib.Path(sys.argv[1])).add('x')[1])"
    code = f"import sys, pathlib; from lipwright.storage.local.api_keys import FileKeyRing\n{add}"
    command = [sys.executable, "-c", code, str(tmp_path)]
    adding = [subprocess.Popen(command, cwd=repo_root, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    made = [line for process in adding for line in process.communicate(timeout=60)[0].split()]
    assert len(made) == len(reader.list()) == 15
    assert {reader.find(key).id for key in made} == {key.id for key in reader.list()}


def test_a_broken_file_lets_nobody_in(tmp_path: Path) -> None:
    keys = FileKeyRing(tmp_path)
    _, key = keys.add("a studio")
    (tmp_path / "api_keys.json").write_text('{"keys": [{"id": ')
    for _ in range(2):
        with pytest.raises(ConfigError, match="lipwright keys"):
            keys.list()
    with pytest.raises(ConfigError):
        keys.find(key)
    with pytest.raises(ConfigError):
        keys.add("would lose the others")


def test_webhook_secrets_are_stable_private_and_apart(tmp_path: Path) -> None:
    made = {owner: webhook_secret(tmp_path, owner) for owner in (None, "a" * 12, "b" * 12)}
    assert made == {owner: webhook_secret(tmp_path, owner) for owner in made}
    assert len(set(made.values())) == 3
    for secret in made.values():
        assert secret.startswith("whsec_")
        assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"))) <= 64  # the specification's bounds
    (master,) = tmp_path.iterdir()
    assert stat.S_IMODE(master.stat().st_mode) == 0o600
    assert webhook_secret(tmp_path / "elsewhere", None) != made[None]


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.new_database()


def test_shared_keys_and_secrets_are_one_for_all(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = open_keys(url, tmp_path), open_keys(url, tmp_path)
    assert there.list() == [] and there.is_fresh
    made, key = here.add("a studio", max_priority=1)
    monkeypatch.setattr("lipwright.storage.postgres.keys._FRESH_S", 0.0)
    there.refresh()
    assert there.find(key) == made == here.find(key)
    here.revoke(made.id)
    with pytest.raises(NotFoundError):
        here.revoke(made.id)
    there.refresh()
    with pytest.raises(UnauthorizedError):
        there.find(key)
    here_secret, there_secret = webhook_secrets(url, tmp_path / "a"), webhook_secrets(url, tmp_path / "b")
    assert here_secret("owner") == there_secret("owner") != here_secret(None) == there_secret(None)
    assert here_secret("owner").startswith("whsec_")
    assert list(tmp_path.iterdir()) == [], "nothing lies in the folder"


def test_known_keys_count_while_nobody_answers(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lipwright.storage.postgres.keys._FRESH_S", 0.0)
    keys = PostgresKeyRing(SharedDatabase(url))
    made, key = keys.add("a studio")
    keys._database = SharedDatabase("postgresql://lipwright@127.0.0.1:1/none")
    keys.refresh()
    assert keys.find(key) == made
    with pytest.raises(TableUnreachableError):
        PostgresKeyRing(keys._database).find(key)
