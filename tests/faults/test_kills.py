"""Replicas die under the work: every result is there, whole, and equal to that of a quiet run."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.faults.load import IS_ENDURANCE, Caller, Pair, ResultWatch, digest, num_frames, submit_all
from tests.faults.service_process import KINDS, ServiceProcess, served
from tests.threads import Repeating

PERIOD_S = 3.0
MAX_PAUSE_S = 30.0
NUM_JOBS = 6  # a round; rounds follow each other until there were enough kills
MIN_KILLS = 50 if IS_ENDURANCE else 3


class Killer(Repeating):
    """Kills a random replica every few seconds, each kind in turn, until the block ends.

    It waits until the service stands again, though not for ever: where a machine is so busy that replicas come back
    more slowly than they die, no job could ever end.
    """

    period_s = 0.05

    def __init__(self, service: ServiceProcess, watch: ResultWatch, seed: int = 1) -> None:
        self._service, self._watch = service, watch
        self._random = random.Random(seed)
        self._last, self._turn = time.monotonic(), list[str]()
        self.killed: Counter[str] = Counter()

    def look(self) -> None:
        self._watch.look()
        pause_s = time.monotonic() - self._last
        if pause_s < PERIOD_S or (pause_s < MAX_PAUSE_S and not self._service.is_ready()):
            return
        self._last = time.monotonic()
        self._turn = self._turn or self._random.sample(KINDS, len(KINDS))
        if replicas := self._service.replicas(self._turn[-1]):
            self._random.choice(replicas).kill()
            self.killed[self._turn.pop()] += 1


@pytest.mark.timeout(3000)
def test_results_are_those_of_a_quiet_run(tmp_path: Path, portrait_pair: Pair, sample_pair: Pair) -> None:
    pairs = [(portrait_pair, sample_pair)[number % 2] for number in range(NUM_JOBS)]
    with served(tmp_path / "data") as service:
        caller = Caller(service.url)
        quiet: dict[Pair, str] = {}
        frames: dict[Pair, int] = {}
        for pair in (portrait_pair, sample_pair):
            job_id = caller.accepted(pair)
            job = caller.wait([job_id], 120)[job_id]
            video = caller.video(job_id)
            quiet[pair], frames[pair] = digest(video), num_frames(video)
            assert frames[pair] == job["num_frames"]
        watch = ResultWatch(tmp_path / "data")
        started = time.monotonic()
        final: dict[str, dict[str, Any]] = {}
        pair_of: dict[str, Pair] = {}
        with Killer(service, watch) as killer:
            while killer.killed.total() < MIN_KILLS:
                answers = submit_all(caller, pairs, num_at_once=4)
                assert Counter(answer.status_code for answer in answers) == {202: NUM_JOBS}
                ids = [answer.json()["id"] for answer in answers]
                assert len(set(ids)) == NUM_JOBS
                pair_of |= zip(ids, pairs, strict=True)
                final |= caller.wait(ids, 600)
        took_s = time.monotonic() - started
        print(f"\nkills: {len(final)} jobs in {took_s:.1f} s under {dict(killer.killed)}")
        failed = {job_id: job["error"] for job_id, job in final.items() if job["status"] != "succeeded"}
        assert not failed
        for job_id, pair in pair_of.items():
            video = caller.video(job_id)
            assert (num_frames(video), digest(video)) == (frames[pair], quiet[pair])
        watch.look()
        assert set(watch.num_writings()) == {1}, "no job was run to the end twice"
