"""Replicas, engines or the whole service die under the work: results are whole, and equal to those of a quiet run."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.avatar.folder import is_tracked
from storage.file_keys import segment_key
from storage.job_table import JobTable
from storage.sqlite.database import Database
from tests.faults.load import IS_ENDURANCE, Caller, Pair, ResultWatch, digest, num_frames, segment_times, submit_all
from tests.faults.service_process import KINDS, ServiceProcess, config_with, served
from tests.threads import Repeating, repeating
from tests.waiting import wait_until

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
            job = caller.completed(pair)
            video = caller.video(job["id"])
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


NUM_RESTARTED = 10 if IS_ENDURANCE else 3


@pytest.mark.timeout(400)
def test_jobs_survive_the_death_of_everything(tmp_path: Path, portrait_pair: Pair, long_pair: Pair) -> None:
    data_dir = tmp_path / "data"
    pairs = [(long_pair, long_pair, portrait_pair)[number % 3] for number in range(NUM_RESTARTED)]
    with served(data_dir) as service:
        caller = Caller(service.url)
        quiet = {pair: caller.result(caller.accepted(pair)) for pair in (portrait_pair, long_pair)}
        ids = [caller.accepted(pair, key=f"k{number}") for number, pair in enumerate(pairs)]
        wait_until(lambda: sum(Path(path).parts[-3] in ids for path, _ in segment_times(data_dir)) >= 6, pause_s=0.02)
        num_killed = service.kill_everything()
        finished = _finished(data_dir, ids)  # a file may be there before its row says so
        harmed = min(finished)
        _zero(Path(harmed))
        made = {(path, time_ns) for path, time_ns in segment_times(data_dir) if path in finished}
        track = min(data_dir.glob("avatars/*/track.npz"))
        os.truncate(track, track.stat().st_size // 2)
    started = time.monotonic()
    with _remade(data_dir, made) as remade, served(data_dir) as service:
        ready_s = time.monotonic() - started
        caller = Caller(service.url)
        again = caller.submit(pairs[0], key="k0")
        assert again.json()["id"] == ids[0], "the same key is the same job, also after a restart"
        final = caller.wait(ids, 200)
        took_s = time.monotonic() - started - ready_s
        assert Counter(job["status"] for job in final.values()) == {"succeeded": NUM_RESTARTED}
        for job_id, pair in zip(ids, pairs, strict=True):
            video = caller.video(job_id)
            assert (num_frames(video), digest(video)) == (final[job_id]["num_frames"], quiet[pair])
            face = final[job_id]["report"]["face"]
            num_reported = face["num_frames_rewritten"] + sum(face["num_frames_skipped"].values())
            assert num_reported == final[job_id]["num_frames"], "the report counts what was rendered before, too"
        # The job that the damaged track belongs to may have been done before the kill: each pair is asked for again.
        for pair, expected in quiet.items():
            assert caller.result(caller.accepted(pair)) == expected
    print(f"\nrestart: {num_killed = }, {ready_s = :.1f}, {took_s = :.1f}, {len(remade)} of {len(made)} made again")
    assert len(made) > 1
    assert remade == {harmed}, "segments that were finished are not made again, but damaged ones"
    assert track.stat().st_size > 0 and is_tracked(track.parent), "and so is a track"


@pytest.mark.endurance
@pytest.mark.timeout(400)
def test_sigterm_lets_segments_in_flight_end(tmp_path: Path, long_pair: Pair) -> None:
    data_dir = tmp_path / "data"
    with served(data_dir) as service:
        caller = Caller(service.url)
        quiet = caller.result(caller.accepted(long_pair))
        ids = [caller.accepted(long_pair) for _ in range(3)]
        wait_until(lambda: sum(Path(path).parts[-3] in ids for path, _ in segment_times(data_dir)) >= 3, pause_s=0.02)
        service.stop()
        made = segment_times(data_dir)
        finished = _finished(data_dir, ids)
    assert {path for path, _ in made if Path(path).parts[-3] in ids} == finished, "each segment on disk is recorded"
    with _remade(data_dir, made) as remade, served(data_dir) as service:
        caller = Caller(service.url)
        assert Counter(job["status"] for job in caller.wait(ids, 200).values()) == {"succeeded": len(ids)}
        assert {digest(caller.video(job_id)) for job_id in ids} == {quiet}
    assert remade == set()


def _zero(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2048] = bytes(min(2048, len(content) - middle))
    path.write_bytes(content)


@contextmanager
def _remade(data_dir: Path, made: set[tuple[str, int]]) -> Iterator[set[str]]:
    """The paths of segments that are made again in the block; they are deleted soon, so a thread looks for them."""
    paths, remade = {path for path, _ in made}, set[str]()

    def look() -> None:
        remade.update(path for path, _ in segment_times(data_dir) - made if path in paths)

    with repeating(look, 0.01):
        yield remade


def _finished(data_dir: Path, job_ids: Sequence[str]) -> set[str]:
    table = JobTable(Database(data_dir / "jobs.sqlite3"))
    try:
        jobs = [each for each in job_ids if not table.get_job(each).status.is_final]
        keys = {segment_key(each, segment.number) for each in jobs for segment in table.finished_segments(each)}
    finally:
        table.close()
    return {path for path, _ in segment_times(data_dir) if str(Path(path).relative_to(data_dir)) in keys}


@pytest.mark.endurance
@pytest.mark.timeout(600)
def test_failing_engines_end_their_own_jobs(tmp_path: Path, portrait_pair: Pair) -> None:
    path = config_with(tmp_path, jobs={"min_call_timeout_s": 8.0, "timeout_s_per_frame": 0.05, "max_attempts": 3})
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["applications"][0]["import_path"] = "tests.faults.graph_with_faults:build"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    with served(tmp_path / "data", path) as service:
        caller = Caller(service.url)
        caller.completed(portrait_pair)
        started = time.monotonic()
        bad = {engine: caller.accepted(portrait_pair, engine=engine) for engine in ("hangs", "crashes", "raises")}
        good = [caller.accepted(portrait_pair) for _ in range(6)]
        ends: dict[str, float] = {}
        final: dict[str, dict[str, Any]] = {}
        while len(final) < len(bad) + len(good):
            assert time.monotonic() - started < 300, f"not final: {set(bad.values()) | set(good) - set(final)}"
            for job_id in (*bad.values(), *good):
                job = caller.job(job_id)
                if job["status"] in ("succeeded", "failed") and job_id not in final:
                    final[job_id], ends[job_id] = job, time.monotonic() - started
            time.sleep(0.1)
        failures = {engine: f"{final[job_id]['error']} {ends[job_id]:.1f} s" for engine, job_id in bad.items()}
        print(f"\nengines: {failures}; others done after {max(ends[job_id] for job_id in good):.1f} s")
        assert [final[job_id]["status"] for job_id in good] == ["succeeded"] * len(good)
        errors = {engine: final[job_id]["error"] for engine, job_id in bad.items()}
        assert errors["hangs"]["code"] == "stage_timeout" and "FaceSynthesis" in errors["hangs"]["message"]
        assert errors["crashes"]["code"] == "replica_lost" and "FaceSynthesis" in errors["crashes"]["message"]
        assert errors["raises"]["code"] == "internal" and "ZeroDivisionError" in errors["raises"]["message"]
        caller.completed(portrait_pair)  # by the replica in place of the hung one
