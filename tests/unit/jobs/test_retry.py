"""Retries in the Director: unexpected exceptions a few times, a full disk for a configured time."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest

from config import JobConfig
from errors import LipwrightError, MediaError, StorageFullError
from jobs import retry as retry_module
from jobs.retry import retry

LIMITS = JobConfig(max_attempts=3, max_disk_wait_s=0.2)
FULL = StorageFullError("The disk of the job table is full.")


class Work:
    """Raises one error after the other, then returns how often it was called."""

    def __init__(self, errors: Sequence[Exception]) -> None:
        self._errors = list(errors)
        self.num_calls = 0

    async def __call__(self) -> int:
        self.num_calls += 1
        if self._errors:
            raise self._errors.pop(0)
        return self.num_calls


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_module, "_PAUSE_S", 0.001)
    monkeypatch.setattr(retry_module, "_FIRST_DISK_PAUSE_S", 0.01)
    monkeypatch.setattr(retry_module, "_MAX_DISK_PAUSE_S", 0.02)


@pytest.mark.parametrize(
    "error", [FULL, OSError(errno.ENOSPC, "No space left on device"), ExceptionGroup("segments", [FULL])]
)
async def test_work_continues_once_there_is_space(error: Exception) -> None:
    assert await retry(Work([error] * 8), LIMITS) == 9, "more often than `max_attempts`"


async def test_work_fails_when_the_disk_stays_full() -> None:
    work = Work([FULL] * 99)
    with pytest.raises(
        StorageFullError, match=r"job table is full\. Waited .* jobs\.max_disk_wait_s.* Free disk"
    ) as caught:
        await retry(work, LIMITS)
    assert caught.value.was_retried
    assert 10 <= work.num_calls <= 13, "pauses of 0.01 and 0.02 s, 0.2 s together"


async def test_a_wait_inside_the_work_is_not_repeated() -> None:
    work = Work([StorageFullError("Waited 900 s.", was_retried=True)])
    with pytest.raises(StorageFullError, match="Waited 900 s"):
        await retry(work, LIMITS)
    assert work.num_calls == 1


async def test_a_full_disk_uses_up_no_attempts() -> None:
    defect = SystemError("AST constructor recursion depth mismatch")
    assert await retry(Work([defect, FULL, FULL, FULL, defect]), LIMITS) == 6
    with pytest.raises(LipwrightError, match="failed 3 times"):
        await retry(Work([defect, FULL, defect, defect]), LIMITS)


async def test_a_rejected_input_is_not_tried_again() -> None:
    work = Work([ExceptionGroup("segments", [MediaError("a.mp4: expected video")])])
    with pytest.raises(MediaError):
        await retry(work, LIMITS)
    assert work.num_calls == 1
