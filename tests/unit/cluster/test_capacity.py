"""A thousand jobs through the real admission, scheduler, table and segment limiter, in hours that pass in seconds.

Only the machines are simulated: Studios and face painters are so many servers that take so long.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from cluster.capacity import MEASURED, Costs, Fleet, JobProfile, capacity, main
from lipwright.config import JobConfig, PipelineConfig, RenderConfig
from lipwright.errors import CapacityError
from lipwright.jobs.admission import AdmissionController, AdmitRequest
from lipwright.jobs.messages import PreparedSpeech, RenderedSegment, SegmentRequest
from lipwright.jobs.model.record import JobStatus
from lipwright.jobs.scheduler import JobScheduler
from lipwright.jobs.segments.limiter import SegmentLimiter
from lipwright.storage.file_keys import job_file_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.sqlite.database import Database
from lipwright.telemetry.log_context import CallContext
from models.mouth.motion import RunningStats
from tests.faults.load import IS_ENDURANCE
from tests.unit.cluster.virtual_time import VirtualTimeLoop
from tests.unit.job_records import job_record, job_services
from tests.unit.jobs.test_run import SECONDS, FixedAvatars, MemoryStages
from tests.unit.on_disk import on_disk

NUM_JOBS, NUM_QUEUED, NUM_STUDIOS, NUM_PAINTERS = (1000, 32, 6, 6) if IS_ENDURANCE else (200, 16, 3, 3)
WORK, COSTS = JobProfile(7.0), Costs(0.002, 0.02, 0.0, 1e-6, 1e-6)
MODEL = capacity(COSTS, WORK, Fleet(num_cores=1000, num_gpus=NUM_PAINTERS, replicas_per_gpu=1))
program = Typer()
program.command()(main)
SEGMENT = b"segment"
CONFIG = PipelineConfig(
    jobs=JobConfig(max_running_jobs=4, running_jobs_per_studio=2, max_queued_jobs=NUM_QUEUED, min_free_bytes=0),
    render=RenderConfig(block_seconds=30, segments_per_studio=3),
)


class Machines(MemoryStages):
    """Stations: two segments at a time in each Studio, one chunk at a time in each FaceSynthesis replica."""

    def __init__(self, files: FileStore, started: dict[str, float]) -> None:
        super().__init__(files, lambda first: SEGMENT)
        self._started = started
        self._studios, self._painters = asyncio.Semaphore(2 * NUM_STUDIOS), asyncio.Semaphore(NUM_PAINTERS)

    async def prepare_speech(self, context: CallContext, parts: Any, speech: str, *rest: Any) -> PreparedSpeech:
        self._started[context.job_id] = asyncio.get_running_loop().time()
        return await super().prepare_speech(context, parts, speech, *rest)

    async def render(self, context: CallContext, request: SegmentRequest, out: str, *_: Any) -> RenderedSegment:
        async def chunk(num_frames: int) -> None:
            await asyncio.sleep(num_frames * COSTS.studio_s)
            async with self._painters:
                await asyncio.sleep(num_frames * COSTS.face_s)

        async with self._studios:
            chunks, num = CONFIG.render.chunk_frames, len(request.source_index)
            await asyncio.gather(*(chunk(min(chunks, num - first)) for first in range(0, num, chunks)))
        (self._files.root / out).write_bytes(SEGMENT)  # noqa: ASYNC240  # a few bytes, a thousand times
        return RenderedSegment(len(SEGMENT), hashlib.sha256(SEGMENT).hexdigest(), RunningStats())


@dataclass
class Day:
    """What happened, by job, in seconds of the simulated clock."""

    accepted: dict[str, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    num_refusals: int = 0
    num_running: list[int] = field(default_factory=list)
    took_s: float = 0.0


def simulate(folder: Path, num_jobs: dict[str, int]) -> Day:
    """Each owner submits one job after the other, and comes again when the admission controller says so."""
    day = Day()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        files = FileStore(folder / "data")
        table = JobTable(Database(files.table_path))
        table.database.claim()
        limiter, stages = SegmentLimiter(CONFIG), Machines(files, day.started)
        limiter.set_num_studios(NUM_STUDIOS)
        admission = AdmissionController(CONFIG, table, files, loop.time, limiter)
        avatars = FixedAvatars(CONFIG, stages, table, files)
        scheduler = JobScheduler(job_services(CONFIG, stages, avatars, table, files, limiter))

        async def submit(owner: str, number: int) -> None:
            for _ in range(number):
                while True:
                    try:
                        place = admission.admit(AdmitRequest(owner=owner, num_bytes=3, max_bytes=3))
                        break
                    except CapacityError:
                        day.num_refusals += 1
                        await asyncio.sleep(1.0)
                job = table.insert_job(job_record(audio_seconds=SECONDS, result_seconds=SECONDS, owner=owner))
                on_disk(files, job_file_key(job.id)).write_bytes(b"abc")
                admission.release(place.id)
                day.accepted[job.id], day.owners[job.id] = loop.time(), owner
                await scheduler.start_waiting()
                day.num_running.append(table.count_jobs(JobStatus.RUNNING))

        await asyncio.gather(*(submit(owner, number) for owner, number in num_jobs.items()))
        while table.unfinished_jobs():  # noqa: ASYNC110  # the clock jumps: it costs nothing
            await asyncio.sleep(1.0)
        day.took_s = loop.time()
        assert table.count_jobs(JobStatus.SUCCEEDED) == sum(num_jobs.values())
        table.close()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())
    return day


def test_simulated_throughput_and_waits_match_the_model(tmp_path: Path) -> None:
    """An owner has four times as many jobs as another; a thousand in the long form (`make test-faults`).

    An owner holds half of the queue at most: alone it waits for that half, beside another for both.
    """
    day = simulate(tmp_path, {"many": NUM_JOBS * 8 // 10, "few": NUM_JOBS * 2 // 10})
    assert MODEL.bottleneck == "GPU"
    assert NUM_JOBS / day.took_s == pytest.approx(MODEL.jobs_per_s, rel=0.2)
    assert max(day.num_running) == CONFIG.jobs.running_jobs_per_studio * NUM_STUDIOS
    assert day.num_refusals > 0, "the queue was full"
    share = int(NUM_QUEUED * CONFIG.jobs.max_queue_share_per_key)
    begun = sorted(day.accepted.values())[NUM_QUEUED * 2]  # from then on, queue and fleet are full
    both_until = max(at for job, at in day.accepted.items() if day.owners[job] == "few")
    beside = [day.started[job] - at for job, at in day.accepted.items() if begun <= at <= both_until]
    alone_from = both_until + MODEL.wait_s(NUM_QUEUED)
    alone = [day.started[job] - at for job, at in day.accepted.items() if at > alone_from]
    assert len(beside) > NUM_JOBS / 10 and len(alone) > NUM_JOBS / 5
    assert sum(beside) / len(beside) == pytest.approx(MODEL.wait_s(2 * share), rel=0.2)
    assert sum(alone) / len(alone) == pytest.approx(MODEL.wait_s(share), rel=0.2)


def test_capacity_of_one_machine_matches_results_json(repo_root: Path) -> None:
    """The costs are those of benchmarks/results.json, so two cores have to need the wall clock that is there, too."""
    graph = json.loads((repo_root / "benchmarks" / "results.json").read_text(encoding="utf-8"))["graph"]
    for size, costs in MEASURED.items():
        job = graph[size]["job"]
        processes = job["cpu_ms_per_frame_by_process"]
        assert costs.face_s * 1000 == pytest.approx(processes["FaceSynthesis"], rel=0.1)
        assert (costs.studio_s + costs.face_s + costs.other_s) * 1000 == pytest.approx(job["cpu_ms_per_frame"], rel=0.1)
        frames_per_s = capacity(costs, JobProfile(job["num_frames"] / 25), Fleet(2)).jobs_per_s * job["num_frames"]
        # One job does not fill two cores all the time: it begins with its sound, ends with joining, and has two chunks
        # per segment at 512x512.
        assert 0.5 <= job["num_frames"] / job["wall_s"] / frames_per_s <= 1.05, size


def test_capacity_md_has_the_printed_table(repo_root: Path) -> None:
    """On a thousand nodes, the Director is the bottleneck."""
    printed = CliRunner().invoke(program, [])
    assert printed.exit_code == 0
    assert printed.stdout.strip() in (repo_root / "cluster" / "capacity.md").read_text(encoding="utf-8")
