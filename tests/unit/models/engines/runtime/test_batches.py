from __future__ import annotations

import logging

import numpy as np
import pytest

from errors import CancelledJobError
from models.engines.runtime import batching
from models.engines.runtime.batching import advise_batch, fixed_batches, seconds_by_batch


def test_fixed_batches_are_full_and_hold_each_row_once() -> None:
    rows = np.arange(10)
    made = list(fixed_batches((rows, rows * 2.0), 4))
    assert [num for _, num in made] == [4, 4, 2]
    assert [first.tolist() for (first, _), _ in made] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 9, 9]]
    assert all((second == 2 * first).all() for (first, second), _ in made)
    assert list(fixed_batches((rows[:0],), 4)) == []


def test_fixed_batches_stop_raises_before_next_batch() -> None:
    batches = fixed_batches((np.arange(10),), 4, iter((False, False, True)).__next__)
    assert [next(batches)[1], next(batches)[1]] == [4, 4]
    with pytest.raises(CancelledJobError, match="8 of 10 faces"):
        next(batches)


class Clock:
    """Time that passes only while somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(batching, "time", clock)
    return clock


def test_seconds_by_batch_stops_when_budget_is_spent(clock: Clock) -> None:
    ran = []

    def run(size: int) -> None:
        ran.append(size)
        clock.work(0.02 * size)

    found = seconds_by_batch(run, budget_s=0.45)
    assert list(found) == [1, 2, 4]
    assert ran == [1, 1, 2, 2, 4, 4]
    assert found[1] == pytest.approx(0.02)


def test_advise_batch_logs_only_clear_gain(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert advise_batch(lambda size: clock.work(0.005 * size**2), used=1, budget_s=0.4) == 1
        assert not caplog.records
        assert advise_batch(lambda size: clock.work(0.03), used=1, budget_s=2) > 1
    assert "batch_size 1" in caplog.text
