"""Two services on one PostgreSQL: the leader dies or is upgraded in the middle of jobs; the database is lost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from lipwright_client import Lipwright
from storage.postgres.database import Database
from tests.faults.load import Caller, Pair, SegmentWatch, digest, num_frames
from tests.faults.service_process import ServiceProcess, config_with, served
from tests.postgres import NO_SERVER, PostgresServer, running_postgres, server_programs
from tests.threads import repeating
from tests.waiting import wait_until

NUM_LONG_JOBS = 4
_PROMISED_S = 10.0
_GONE_S = 30.0


def _leads(service: ServiceProcess) -> bool:
    return httpx.get(f"{service.url}/readyz", timeout=30).status_code == 200


def _rows(url: str, statement: str) -> list[Mapping[str, Any]]:
    database = Database(url)
    try:
        return list(database.query(statement))
    finally:
        database.close()


@pytest.mark.endurance
@pytest.mark.skipif(server_programs() is None, reason=NO_SERVER)
@pytest.mark.timeout(900)
def test_another_service_goes_on_with_the_jobs_of_one_that_died(tmp_path: Path, long_pair: Pair) -> None:
    data_dir = tmp_path / "data"
    with running_postgres() as database:
        url = database.new_database()
        config = config_with(tmp_path, state=url)
        with served(data_dir, config) as first, served(data_dir, config) as second:
            caller = Caller(first.url)
            ids = [caller.accepted(long_pair, key=f"k{number}") for number in range(NUM_LONG_JOBS)]
            elsewhere = Caller(second.url)
            assert {elsewhere.job(job_id)["id"] for job_id in ids} == set(ids), "a standby can read"
            refused = Caller(second.url, patience_s=0).submit(long_pair, key="new")
            assert refused.status_code == 503 and refused.json()["code"] == "standby"
            assert int(refused.headers["Retry-After"]) >= 1
            wait_until(lambda: list(data_dir.glob("jobs/*/segments/*.mp4")))
            first.kill_everything()
            took_s = wait_until(lambda: _leads(second), 60)
            elsewhere.wait(ids[:1], 240)
            _lose_the_database(database, second, long_pair)
            elsewhere.wait(ids, 300)
            final = [elsewhere.job(job_id) for job_id in ids]
            assert Counter(job["status"] for job in final) == {"succeeded": NUM_LONG_JOBS}
            assert all(num_frames(elsewhere.video(job_id)) for job_id in ids)
            assert len(_rows(url, "SELECT id FROM jobs")) == NUM_LONG_JOBS, "none is lost, none is there twice"
            print(f"another one led {took_s:.1f} s after the death of the first")
            assert took_s < _PROMISED_S


def _lose_the_database(database: PostgresServer, service: ServiceProcess, pair: Pair) -> None:
    """Stop the server for half a minute; the API says so, and answers again when it is back."""
    database.stop()
    gone = time.monotonic()
    while time.monotonic() - gone < _GONE_S:
        assert httpx.get(f"{service.url}/healthz", timeout=30).status_code == 200
        refused = Caller(service.url, patience_s=0).submit(pair, key="while it is gone")
        assert refused.status_code == 503, refused.text
        assert refused.json()["code"] in ("job_table_unreachable", "standby") and refused.headers["Retry-After"]
        time.sleep(1.0)
    database.start()
    print(f"it leads again {wait_until(lambda: _leads(service), 60):.1f} s after the database is back")


NUM_JOBS = 8
_JOBS_S = 400.0
_ASK_S = 0.25


@dataclass(frozen=True)
class Answer:
    """What one service said to a submit: 0 stands for a line that broke."""

    at: float
    status: int
    code: str = ""
    retry_after_s: int = 0


@dataclass
class Witness:
    """Asks a service all the time for what only the leader does."""

    url: str
    pair: Pair
    answers: list[Answer] = field(default_factory=list)

    def ask(self) -> None:
        """Send a job again that is there already: the leader knows it."""
        try:
            answer = Caller(self.url, patience_s=0).submit(self.pair, key="known")
        except httpx.TransportError:
            self.answers.append(Answer(time.monotonic(), 0))
            return
        code = "" if answer.is_success else answer.json()["code"]
        retry_after_s = int(answer.headers.get("Retry-After", 0))
        self.answers.append(Answer(time.monotonic(), answer.status_code, code, retry_after_s))

    def took(self, since: float) -> float:
        """Seconds from a moment to the first success after it."""
        return next(answer.at for answer in self.answers if answer.at > since and answer.status in (200, 202)) - since


def _recorded(url: str) -> set[tuple[str, int]]:
    rows = _rows(url, "SELECT job_id, number FROM segments WHERE status = 'done'")
    return {(row["job_id"], row["number"]) for row in rows}


@pytest.mark.endurance
@pytest.mark.skipif(server_programs() is None, reason=NO_SERVER)
@pytest.mark.timeout(1200)
def test_no_job_is_lost_and_none_runs_twice(tmp_path: Path, portrait_pair: Pair, long_pair: Pair) -> None:
    data_dir, nobody = tmp_path / "data", tmp_path / "nobody.png"
    Image.fromarray(np.full((256, 256, 3), 128, np.uint8)).save(nobody)
    with running_postgres() as database:
        url = database.new_database()
        inside = ("env", f"LIPWRIGHT_STATE={url}")  # as a container or a unit has it
        with served(data_dir, inside=inside) as old:
            caller = Caller(old.url)
            good = caller.accepted(portrait_pair, key="known")
            bad = caller.accepted(Pair(nobody.read_bytes(), portrait_pair.audio))
            cancelled = caller.accepted(portrait_pair)
            caller.request("POST", f"/v1/jobs/{cancelled}/cancel").raise_for_status()
            caller.wait([good, bad, cancelled], 120)
            ended = {good: "succeeded", bad: "failed", cancelled: "cancelled"}
            ends = {job_id: caller.job(job_id)["finished_at"] for job_id in ended}
            with served(data_dir, inside=inside) as new:
                ids = [caller.accepted(long_pair, key=f"k{number}") for number in range(NUM_JOBS)]
                with SegmentWatch(data_dir) as watch:
                    _upgrade(old, new, ids, url, portrait_pair, watch)
                elsewhere = Caller(new.url)
                final = elsewhere.wait(ids, _JOBS_S)
                assert Counter(job["status"] for job in final.values()) == {"succeeded": len(ids)}
                videos = {job_id: elsewhere.video(job_id) for job_id in ids}
                assert {num_frames(video) for video in videos.values()} == {375}
                assert len({digest(video) for video in videos.values()}) == 1
                for job_id, status in ended.items():
                    job = elsewhere.job(job_id)
                    assert (job["status"], job["finished_at"]) == (status, ends[job_id]), "what has ended stays"
                listed = elsewhere.request("GET", "/v1/jobs?limit=100").json()
                assert {job["id"] for job in listed["jobs"]} == {*ids, *ended}, "none is lost, none is there twice"


def _upgrade(
    old: ServiceProcess, new: ServiceProcess, ids: list[str], url: str, known: Pair, watch: SegmentWatch
) -> None:
    """Have the new service take over in the middle of the jobs, and check what callers got meanwhile."""
    before, after = Witness(old.url, known), Witness(new.url, known)
    with repeating(before.ask, _ASK_S), repeating(after.ask, _ASK_S), ThreadPoolExecutor(1) as pool:
        followed = pool.submit(Lipwright(new.url).jobs.wait, ids[-1], _JOBS_S)
        caller = Caller(new.url)
        wait_until(lambda: len(_recorded(url)) >= 4)
        assert not any(answer.status in (200, 202) for answer in after.answers), "the old one leads for as long"
        recorded, began = _recorded(url), time.monotonic()
        old.stop()
        unfinished = [job_id for job_id in ids if caller.job(job_id)["status"] in ("queued", "running")]
        caller.wait(ids, _JOBS_S)
    last = max((answer.at for answer in before.answers if answer.status in (200, 202)), default=began)
    took_s = after.took(began)
    moved, kept = f"{len(unfinished)} of {len(ids)} jobs went on", f"{len(recorded)} segments recorded before"
    print(f"\nupgrade: {took_s = :.1f}, {after.took(last):.1f} s after the last yes of the old one; {moved}, {kept}")
    assert len(unfinished) > 1, "it was in the middle of them"
    assert followed.result(60).status == "succeeded", "followers get the final event"
    assert recorded and not watch.written_again(recorded), "segments that were recorded are not made again"
    assert set(watch.results.num_writings()) == {1}, "no job was run to the end twice"
    refusals = [answer for answer in (*before.answers, *after.answers) if answer.status not in (0, 200, 202)]
    assert all(1 <= answer.retry_after_s <= _PROMISED_S for answer in refusals), refusals
    codes = {answer.status: answer.code for answer in after.answers if answer in refusals}
    assert codes == {503: "standby"}
    assert {answer.status for answer in refusals} <= {503, 502}, "the old service may end in the middle of an answer"
    assert not [answer for answer in after.answers if answer.status == 0], "the new service answers all the time"
    assert after.took(last) < _PROMISED_S
