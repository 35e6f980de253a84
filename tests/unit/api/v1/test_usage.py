"""GET /v1/usage: what each API key sees, as JSON and as CSV."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobs.model.base import utc_now
from jobs.model.record import JobStatus
from storage.local.api_keys import FileKeyRing
from tests.unit.api_server import MemoryService, api_client
from tests.unit.job_records import job_record


def add_jobs(service: MemoryService, *owners: str | None) -> None:
    for owner in owners:
        job = service.table.insert_job(job_record(owner=owner))
        service.table.update_job(job.id, status=JobStatus.SUCCEEDED)


def rows_of(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    usage: list[dict[str, Any]] = answer.json()["usage"]
    return usage


def test_get_usage_shows_each_key_its_own(tmp_path: Path) -> None:
    service, ring = MemoryService(tmp_path), FileKeyRing(tmp_path)
    (first, first_key), (second, second_key) = ring.add("first"), ring.add("second")
    add_jobs(service, first.id, first.id, second.id)
    with api_client(service) as http:
        assert http.get("/v1/usage").status_code == 401
        for key, own, num in ((first_key, first.id, 2), (second_key, second.id, 1)):
            (row,) = rows_of(http.get("/v1/usage", headers={"X-API-Key": key}))
            assert (row["key"], row["day"]) == (own, str(utc_now().date()))
            assert (row["jobs_submitted"], row["jobs_succeeded"], row["stored_bytes"]) == (num, num, 0)


def test_get_usage_without_keys_shows_all(tmp_path: Path) -> None:
    service = MemoryService(tmp_path)
    add_jobs(service, None, "revoked")
    with api_client(service) as http:
        assert [row["key"] for row in rows_of(http.get("/v1/usage"))] == [None, "revoked"]
        past = rows_of(http.get("/v1/usage", params={"from": "2020-01-01", "to": "2020-12-31"}))
        assert past == []
        submitted = http.post("/v1/jobs", files={"audio": ("a.wav", b"RIFF"), "video": ("v.mp4", b"mp4!")})
    assert submitted.status_code == 202 and service.asked[-1].is_job


@pytest.mark.parametrize(
    ("params", "accept"), [({"format": "csv"}, "*/*"), ({}, "text/csv")], ids=["parameter", "header"]
)
def test_get_usage_as_csv(tmp_path: Path, params: dict[str, str], accept: str) -> None:
    service = MemoryService(tmp_path)
    add_jobs(service, "a", "b")
    with api_client(service) as http:
        answer = http.get("/v1/usage", params=params, headers={"Accept": accept})
        assert rows_of(http.get("/v1/usage", params={"format": "json"}, headers={"Accept": accept}))
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(answer.text.splitlines()))
    assert [(row["key"], row["jobs_succeeded"]) for row in rows] == [("a", "1"), ("b", "1")]
    assert all(date.fromisoformat(row["day"]) == utc_now().date() for row in rows)


@pytest.mark.parametrize(
    ("first", "last"), [("2020-02-01", "2020-01-31"), ("2020-01-01", "2021-01-02"), ("yesterday", "2020-01-01")]
)
def test_get_usage_with_invalid_days_is_refused(tmp_path: Path, first: str, last: str) -> None:
    with api_client(MemoryService(tmp_path)) as http:
        answer = http.get("/v1/usage", params={"from": first, "to": last})
    assert (answer.status_code, answer.json()["code"]) == (422, "option_invalid")
