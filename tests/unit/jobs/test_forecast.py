"""What finished jobs say about the next one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest

from jobs.forecast import forecast, measured_rate, result_bytes
from jobs.messages import OutputPicture
from jobs.model.job_settings import JobSettings
from jobs.model.record import JobRecord, JobStatus
from tests.unit.job_records import job_record
from tests.unit.media.clips import info_of

START = datetime(2026, 1, 1, tzinfo=UTC)


def job(status: JobStatus, seconds: float, progress: float = 0.0, span: tuple[float, float] | None = None) -> JobRecord:
    started, finished = (START + timedelta(seconds=at) for at in span) if span else (None, None)
    times: dict[str, Any] = {"created_at": START, "started_at": started, "finished_at": finished}
    return job_record(status=status, result_seconds=seconds, progress=progress, **times)


def test_the_rate_counts_the_time_in_which_any_job_ran() -> None:
    done = JobStatus.SUCCEEDED
    side_by_side = [job(done, 20, span=(0, 10)), job(done, 20, span=(5, 15)), job(done, 10, span=(100, 105))]
    assert measured_rate(side_by_side) == pytest.approx(50 / 20)
    assert measured_rate([]) is None


def test_the_wait_is_the_work_before_it_at_the_measured_rate() -> None:
    finished = [job(JobStatus.SUCCEEDED, 20, span=(0, 10))]  # two seconds a second
    unfinished = [
        job(JobStatus.RUNNING, 40, progress=0.5),
        job(JobStatus.RUNNING, 100, progress=0.9),
        job(JobStatus.QUEUED, 30),
    ]
    expected = forecast(unfinished, finished, max_running=2)
    assert (expected.seconds_per_second, expected.is_measured) == (2.0, True)
    assert expected.next_start_s == pytest.approx(10), "the one with 10 s left ends after 10 s of both: 20 s of work"
    assert expected.wait_s == pytest.approx(10 + 15)
    assert forecast(unfinished, finished, max_running=3).next_start_s == 0
    assert not forecast([], [], 2).is_measured


def test_a_longer_or_larger_result_needs_more_disk() -> None:
    whole = OutputPicture.of(JobSettings(), info_of(1920, 1080, Fraction(25)))
    minute = result_bytes(whole, 60)
    assert minute == pytest.approx(3 * 1920 * 1080 * 25 * 60 * 0.25 / 8 + 2 * 224_000 * 60)
    assert result_bytes(whole, 120) == pytest.approx(2 * minute)
    assert result_bytes(OutputPicture.of(JobSettings(quality="best"), whole.info), 60) > 1.5 * minute
    small = OutputPicture.of(JobSettings(size="960x540"), info_of(1920, 1080, Fraction(25)))
    assert result_bytes(small, 60) < minute / 2
    assert result_bytes(OutputPicture.of(JobSettings(format="mov"), whole.info), 60) > 10 * minute
