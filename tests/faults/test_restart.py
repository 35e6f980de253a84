"""SIGKILL to everything in the middle of several jobs, damage to what they made, and a new start in the same folder."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from lipwright.storage.file_keys import segment_key
from lipwright.storage.job_table import JobTable
from lipwright.storage.sqlite.database import Database
from models.avatar.folder import is_tracked
from tests.faults.load import IS_ENDURANCE, Caller, Pair, digest, num_frames
from tests.faults.service_process import served
from tests.threads import repeating
from tests.waiting import wait_until

NUM_JOBS = 10 if IS_ENDURANCE else 3


@pytest.mark.timeout(400)
def test_jobs_survive_the_death_of_everything(tmp_path: Path, portrait_pair: Pair, long_pair: Pair) -> None:
    data_dir = tmp_path / "data"
    pairs = [(long_pair, long_pair, portrait_pair)[number % 3] for number in range(NUM_JOBS)]
    with served(data_dir) as service:
        caller = Caller(service.url)
        quiet = {pair: caller.result(caller.accepted(pair)) for pair in (portrait_pair, long_pair)}
        ids = [caller.accepted(pair, key=f"k{number}") for number, pair in enumerate(pairs)]
        wait_until(lambda: sum(Path(path).parts[-3] in ids for path, _ in _segments(data_dir)) >= 6, pause_s=0.02)
        num_killed = service.kill_everything()
        finished = _finished(data_dir, ids)  # a file may be there before its row says so
        harmed = min(finished)
        _zero(Path(harmed))
        made = {(path, time_ns) for path, time_ns in _segments(data_dir) if path in finished}
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
        assert Counter(job["status"] for job in final.values()) == {"succeeded": NUM_JOBS}
        for job_id, pair in zip(ids, pairs, strict=True):
            video = caller.video(job_id)
            assert (num_frames(video), digest(video)) == (final[job_id]["num_frames"], quiet[pair])
            face = final[job_id]["report"]["face"]
            num_reported = face["num_frames_rewritten"] + sum(face["num_frames_skipped"].values())
            assert num_reported == final[job_id]["num_frames"], "the report counts what was rendered before, too"
        # The job that the damaged track belongs to may have been done before the kill: each pair is asked for again.
        for pair, expected in quiet.items():
            assert caller.result(caller.accepted(pair)) == expected
    print(
        f"\nrestart: {num_killed} processes killed, ready after {ready_s:.1f} s, jobs done {took_s:.1f} s later; "
        f"{len(remade)} of {len(made)} finished segments made again"
    )
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
        wait_until(lambda: sum(Path(path).parts[-3] in ids for path, _ in _segments(data_dir)) >= 3, pause_s=0.02)
        service.stop()
        made = _segments(data_dir)
        finished = _finished(data_dir, ids)
    assert {path for path, _ in made if Path(path).parts[-3] in ids} == finished, "each segment on disk is recorded"
    with _remade(data_dir, made) as remade, served(data_dir) as service:
        caller = Caller(service.url)
        assert Counter(job["status"] for job in caller.wait(ids, 200).values()) == {"succeeded": len(ids)}
        assert {digest(caller.video(job_id)) for job_id in ids} == {quiet}
    assert remade == set()


def _zero(path: Path) -> None:
    """A sector or four in the middle of a file are lost; it can still be read, and its size is what it was."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2048] = bytes(min(2048, len(content) - middle))
    path.write_bytes(content)


@contextmanager
def _remade(data_dir: Path, made: set[tuple[str, int]]) -> Iterator[set[str]]:
    """The paths of segments that are made again in the block; they are deleted soon, so a thread looks for them."""
    paths, remade = {path for path, _ in made}, set[str]()

    def look() -> None:
        remade.update(path for path, _ in _segments(data_dir) - made if path in paths)

    with repeating(look, 0.01):
        yield remade


def _finished(data_dir: Path, job_ids: Sequence[str]) -> set[str]:
    """The paths of segments that the job table has as finished, of jobs that it has as unfinished."""
    table = JobTable(Database(data_dir / "jobs.sqlite3"))
    try:
        jobs = [each for each in job_ids if not table.get_job(each).status.is_final]
        keys = {segment_key(each, segment.number) for each in jobs for segment in table.finished_segments(each)}
    finally:
        table.close()
    return {path for path, _ in _segments(data_dir) if str(Path(path).relative_to(data_dir)) in keys}


def _segments(data_dir: Path) -> set[tuple[str, int]]:
    """Path and time of every finished segment."""
    found = set()
    for path in data_dir.glob("jobs/*/segments/*.mp4"):
        try:
            found.add((str(path), path.stat().st_mtime_ns))
        except FileNotFoundError:
            continue
    return found
