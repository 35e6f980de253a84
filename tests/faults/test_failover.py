"""Two services on one PostgreSQL: the leader dies in the middle of jobs, then the database goes for half a minute."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from lipwright.storage.postgres.database import Database
from tests.faults.load import Caller, Pair, num_frames
from tests.faults.service_process import ServiceProcess, config_with, served
from tests.postgres import NO_SERVER, PostgresServer, running_postgres, server_programs
from tests.waiting import wait_until

NUM_JOBS = 4
_PROMISED_S = 10.0
_GONE_S = 30.0


def _leads(service: ServiceProcess) -> bool:
    return httpx.get(f"{service.url}/readyz", timeout=30).status_code == 200


def _starts(url: str) -> dict[str, int]:
    """How often each job was started since its last progress, as the table says."""
    database = Database(url)
    try:
        return {row["id"]: int(row["attempts"]) for row in database.query("SELECT id, attempts FROM jobs")}
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
            ids = [caller.accepted(long_pair, key=f"k{number}") for number in range(NUM_JOBS)]
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
            assert Counter(job["status"] for job in final) == {"succeeded": NUM_JOBS}
            assert all(num_frames(elsewhere.video(job_id)) for job_id in ids)
            assert len(_starts(url)) == NUM_JOBS, "none is lost, none is there twice"
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
