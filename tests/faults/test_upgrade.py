"""An upgrade: a new service beside the old one, on one PostgreSQL, takes over what waits, what runs and what has ended.

The old one is stopped as a supervisor stops it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from lipwright.storage.postgres.database import Database
from lipwright_client import Job, Lipwright
from tests.faults.load import Caller, Pair, SegmentWatch, digest, num_frames
from tests.faults.service_process import ServiceProcess, served
from tests.postgres import NO_SERVER, running_postgres, server_programs
from tests.threads import repeating
from tests.waiting import wait_until

NUM_JOBS = 8
_PROMISED_S = 10.0
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


def _nobody(folder: Path) -> bytes:
    """A picture without a face."""
    path = folder / "nobody.png"
    Image.fromarray(np.full((256, 256, 3), 128, np.uint8)).save(path)
    return path.read_bytes()


def _recorded(url: str) -> set[tuple[str, int]]:
    """Job and number of each segment that the table has as done."""
    database = Database(url)
    try:
        rows = database.query("SELECT job_id, number FROM segments WHERE status = 'done'")
        return {(row["job_id"], row["number"]) for row in rows}
    finally:
        database.close()


def _ended(caller: Caller, portrait: Pair, folder: Path) -> dict[str, str]:
    """Jobs that have ended in each way; status by id."""
    good = caller.accepted(portrait, key="known")
    bad = caller.accepted(Pair(_nobody(folder), portrait.audio))
    cancelled = caller.accepted(portrait)
    caller.request("POST", f"/v1/jobs/{cancelled}/cancel").raise_for_status()
    caller.wait([good, bad, cancelled], 120)
    return {good: "succeeded", bad: "failed", cancelled: "cancelled"}


@pytest.mark.endurance
@pytest.mark.skipif(server_programs() is None, reason=NO_SERVER)
@pytest.mark.timeout(1200)
def test_no_job_is_lost_and_none_runs_twice(tmp_path: Path, portrait_pair: Pair, long_pair: Pair) -> None:
    data_dir = tmp_path / "data"
    with running_postgres() as database:
        url = database.new_database()
        inside = ("env", f"LIPWRIGHT_STATE={url}")  # as a container or a unit has it
        with served(data_dir, inside=inside) as old:
            caller = Caller(old.url)
            ended = _ended(caller, portrait_pair, tmp_path)
            ends = {job_id: caller.job(job_id)["finished_at"] for job_id in ended}
            with served(data_dir, inside=inside) as new:
                ids = [caller.accepted(long_pair, key=f"k{number}") for number in range(NUM_JOBS)]
                _upgrade(old, new, ids, Upgrade(data_dir, url, portrait_pair))
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


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade is watched with."""

    data_dir: Path
    state: str
    known: Pair


def _upgrade(old: ServiceProcess, new: ServiceProcess, ids: list[str], upgrade: Upgrade) -> None:
    """Have the new service take over in the middle of the jobs, and check what callers got meanwhile."""
    before, after = Witness(old.url, upgrade.known), Witness(new.url, upgrade.known)
    followed: list[Job] = []
    follower = threading.Thread(
        target=lambda: followed.append(Lipwright(new.url).jobs.wait(ids[-1], _JOBS_S)), daemon=True
    )
    with SegmentWatch(upgrade.data_dir) as watch, repeating(before.ask, _ASK_S), repeating(after.ask, _ASK_S):
        follower.start()
        caller = Caller(new.url)
        wait_until(lambda: len(_recorded(upgrade.state)) >= 4)
        assert not any(answer.status in (200, 202) for answer in after.answers), "the old one leads for as long"
        recorded, began = _recorded(upgrade.state), time.monotonic()
        old.stop()
        unfinished = [job_id for job_id in ids if caller.job(job_id)["status"] in ("queued", "running")]
        caller.wait(ids, _JOBS_S)
    follower.join(60)
    last = max((answer.at for answer in before.answers if answer.status in (200, 202)), default=began)
    took_s = after.took(began)
    print(
        f"\nupgrade: the new service led {took_s:.1f} s after the word, {after.took(last):.1f} s after the last yes of "
        f"the old one; {len(unfinished)} of {len(ids)} jobs went on, {len(recorded)} segments were recorded before"
    )
    assert len(unfinished) > 1, "it was in the middle of them"
    assert [job.status for job in followed] == ["succeeded"], "followers get the final event"
    assert recorded and not watch.written_again(recorded), "segments that were recorded are not made again"
    assert set(watch.results.num_writings()) == {1}, "no job was run to the end twice"
    refusals = [answer for answer in (*before.answers, *after.answers) if answer.status not in (0, 200, 202)]
    assert all(1 <= answer.retry_after_s <= _PROMISED_S for answer in refusals), refusals
    codes = {answer.status: answer.code for answer in after.answers if answer in refusals}
    assert codes == {503: "standby"}
    assert {answer.status for answer in refusals} <= {503, 502}, "the old service may end in the middle of an answer"
    assert not [answer for answer in after.answers if answer.status == 0], "the new service answers all the time"
    assert after.took(last) < _PROMISED_S
