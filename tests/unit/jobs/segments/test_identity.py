"""The identity of a segment, and segments and plans of finished jobs that are kept and found again."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace
from fractions import Fraction
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from lipwright.config import LabelsConfig, RenderConfig
from lipwright.errors import StoredFileError
from lipwright.jobs.messages import (
    AvatarRef,
    Background,
    BlockRequest,
    FacePlan,
    FrameText,
    MatteRef,
    OutputPicture,
    PreparedSpeech,
    SegmentRequest,
    SegmentWatermark,
    ShownBlock,
    SourceVideo,
)
from lipwright.jobs.model.base import UploadedFile, new_id
from lipwright.jobs.model.job_settings import JobSettings
from lipwright.jobs.model.plan import JobOptions, JobPlan
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.segments.identity import digest, segment_identity
from lipwright.jobs.segments.kept import KeptSegments, PlanCache
from lipwright.media.playback import Playback
from lipwright.media.probe import AudioInfo
from lipwright.storage.file_keys import plan_key, result_key, segment_key, segments_folder
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from models.engines.protocol import FrameSpan, PlannedBlock
from models.engines.warp.exemplar_path import PathState
from models.engines.warp.plan import MouthPlan
from models.matting.report import MatteReport
from models.speech.level import SpeechLevel
from tests.unit.job_records import job_record
from tests.unit.jobs.test_run import VIDEO as INFO
from tests.unit.jobs.test_run import measures_of
from tests.unit.on_disk import on_disk

SOURCE = SourceVideo("avatars/a/source", INFO)
PICTURE = OutputPicture.of(JobSettings(), INFO)
ROWS = np.zeros(4, np.int32)
WEIGHTS = np.zeros(4, np.float32)
MOUTH = MouthPlan(0, ROWS, np.zeros((4, 3, 3), np.float32), ROWS, ROWS, WEIGHTS, WEIGHTS, WEIGHTS, WEIGHTS, WEIGHTS)
FACE = FacePlan(AvatarRef("avatars/a", SOURCE), "warp", MOUTH, WEIGHTS)
REQUEST = SegmentRequest(SOURCE, ROWS, (FACE,), picture=PICTURE, corners=np.zeros((4, 2), np.float32))
MARKS = SegmentWatermark(("bottom_right",), 4, "00" * 8, 0)
PLAN = JobPlan(options=JobOptions(engine="warp"))


def identity(request: SegmentRequest = REQUEST, watermark: SegmentWatermark = MARKS, **changes: Any) -> str:
    fields = {"engine": "warp 27", "source_sha256": "aa", "render": RenderConfig(), "labels": LabelsConfig()}
    return segment_identity(request, watermark, **{**fields, "plan": PLAN, **changes})


def _moved(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    moved = array.copy()
    moved.flat[1] += 1
    return moved


MATTE = MatteReport(mode="person", sha256="aa", uncertain_share=0.0)
BACKGROUND = Background(
    MatteRef("avatars/a/mattes/auto-1/matte.mp4", INFO, MATTE), None, SourceVideo("jobs/1/background", INFO)
)


@pytest.mark.parametrize(
    "changes",
    [
        {"request": replace(REQUEST, source=replace(SOURCE, info=replace(INFO, rotation=90)))},
        {"request": replace(REQUEST, source_index=_moved(ROWS))},
        {"request": replace(REQUEST, faces=())},
        {"request": replace(REQUEST, faces=(replace(FACE, avatar=replace(FACE.avatar, folder="avatars/b")),))},
        {"request": replace(REQUEST, faces=(replace(FACE, plan=replace(MOUTH, exemplar=_moved(ROWS))),))},
        {
            "request": replace(
                REQUEST, faces=(replace(FACE, plan=replace(MOUTH, target_head=_moved(MOUTH.target_head))),)
            )
        },
        {"request": replace(REQUEST, faces=(replace(FACE, weight=_moved(WEIGHTS)),))},
        {"request": replace(REQUEST, faces=(replace(FACE, weight=None),))},
        {"request": replace(REQUEST, has_copies=True)},
        {"request": replace(REQUEST, is_copy=True)},
        {"request": replace(REQUEST, picture=replace(PICTURE, quality="best"))},
        {"request": replace(REQUEST, corners=_moved(np.zeros((4, 2), np.float32)))},
        {"request": replace(REQUEST, first_frame=25)},
        {"request": replace(REQUEST, background=replace(BACKGROUND, file=None, colour="blur"))},
        {"watermark": MARKS._replace(corners=("top_right",))},
        {"watermark": MARKS._replace(num_frames=3)},
        {"watermark": MARKS._replace(invisible_id="11" * 8)},
        {"watermark": MARKS._replace(first_frame=25)},
        {"watermark": MARKS._replace(texts=(FrameText(0, 4, "Hello"),))},
        {"engine": "warp 28"},
        {"source_sha256": "bb"},
        {"render": RenderConfig(crf=21)},
        {"render": RenderConfig(preset="fast")},
        {"render": RenderConfig(encoder_threads=1)},
        {"labels": LabelsConfig(visible_height=0.1)},
    ],
)
def test_identity_other_request_or_settings_are_different(changes: dict[str, Any]) -> None:
    assert identity(**changes) != identity()


def test_identity_equal_request_is_equal() -> None:
    again = replace(REQUEST, faces=(replace(FACE, plan=MOUTH.slice(0, 4), weight=WEIGHTS.copy()),))
    assert identity(again) == identity()
    other = replace(REQUEST, source=replace(SOURCE, key="avatars/b/source"))
    assert identity(other) == identity(), "the same source of another face"


def test_identity_background_file_counts_by_content() -> None:
    def with_file(job: str, content: str) -> str:
        file = UploadedFile(key="k", sha256=content, num_bytes=1, label="b")
        video = replace(BACKGROUND, file=SourceVideo(f"jobs/{job}/background", INFO))
        return identity(replace(REQUEST, background=video), plan=PLAN.model_copy(update={"background_file": file}))

    assert with_file("1", "aa") == with_file("2", "aa") != with_file("2", "bb")


def test_digest_of_split_values_is_different() -> None:
    with pytest.raises(TypeError):
        digest(object())
    assert digest(("ab", "c")) != digest(("a", "bc"))
    assert digest(np.zeros((2, 3))) != digest(np.zeros((3, 2))) != digest(np.zeros((3, 2), np.float32))


def _ended(table: JobTable, files: FileStore, status: JobStatus = JobStatus.SUCCEEDED) -> JobRecord:
    """A job with two segments of 100 bytes and a result."""
    job = table.insert_job(job_record())
    for key in (segment_key(job.id, 0), segment_key(job.id, 1), result_key(job.id)):
        on_disk(files, key).write_bytes(bytes(100))
    for each in (JobStatus.RUNNING, status):
        table.update_job(job.id, status=each)
    return job


def _have_segments(files: FileStore, *jobs: JobRecord) -> list[bool]:
    return [files.has(segment_key(job.id, 0)) for job in jobs]


def test_sweep_deletes_the_oldest_until_the_rest_fits(table: JobTable, files: FileStore) -> None:
    jobs, kept = [_ended(table, files) for _ in range(3)], KeptSegments(450, table, files)
    kept.sweep()
    assert _have_segments(files, *jobs) == [False, True, True] and files.has(result_key(jobs[0].id))
    jobs.append(_ended(table, files))
    kept.sweep()
    assert _have_segments(files, *jobs) == [False, False, True, True]


def test_sweep_keeps_those_of_running_and_successful_jobs(table: JobTable, files: FileStore) -> None:
    ended, failed = _ended(table, files), _ended(table, files, JobStatus.FAILED)
    running = table.insert_job(job_record(status=JobStatus.RUNNING))
    on_disk(files, segment_key(running.id, 0)).write_bytes(bytes(100))
    KeptSegments(1000, table, files).sweep()
    assert _have_segments(files, ended, failed, running) == [True, False, True]
    kept = KeptSegments(0, table, files)
    kept.sweep()
    assert _have_segments(files, ended, running) == [False, True] and not kept.evict_oldest()


def test_evict_oldest_deletes_one_job_at_a_time(table: JobTable, files: FileStore) -> None:
    first, second = _ended(table, files), _ended(table, files)
    kept = KeptSegments(1000, table, files)
    assert kept.evict_oldest() and _have_segments(files, first, second) == [False, True]
    assert kept.evict_oldest() and _have_segments(files, first, second) == [False, False]
    assert not kept.evict_oldest()


RATE, SECONDS = 16_000, 60
SILENCE = np.zeros(RATE * SECONDS, np.int16)
LEVEL = SpeechLevel(RATE * SECONDS, 1.0, -20.0)
BLOCK_REQUEST = BlockRequest(
    AvatarRef("avatars/a", SourceVideo("avatars/a/source", INFO)),
    "warp",
    FrameSpan(Fraction(25), 500, 250, 1500),  # 20 s to 30 s
    Playback(),
)
STATE = PathState(3, np.zeros(8, np.float32))
PLANNED = ShownBlock(PlannedBlock(MOUTH, STATE, measures_of(0, 4)), np.arange(4))


class Bench:
    def __init__(self, files: FileStore) -> None:
        self.files, self.num_planned = files, 0
        self.job_ids = [new_id(), new_id()]
        for job_id in self.job_ids:
            self.files.stored.make_folder(segments_folder(job_id))

    def plan(
        self,
        samples: np.ndarray[Any, Any] | None = None,
        request: BlockRequest = BLOCK_REQUEST,
        state: object = STATE,
        job_ids: list[str] | None = None,
        engine: str = "warp 27",
        level: SpeechLevel = LEVEL,
        context_seconds: float | None = 8.0,
    ) -> ShownBlock:
        job_ids = job_ids or self.job_ids[1:]
        key = f"jobs/{job_ids[0]}/speech.npy"
        np.save(on_disk(self.files, key), SILENCE if samples is None else samples)
        speech = PreparedSpeech(key, AudioInfo(RATE, 1, SECONDS, "pcm"), level)

        async def made() -> ShownBlock:
            self.num_planned += 1
            return PLANNED

        cache = PlanCache(self.files.stored, job_ids, engine, context_seconds)
        return asyncio.run(cache.plan(speech, request, state, made))


@pytest.fixture
def bench(files: FileStore) -> Bench:
    return Bench(files)


def _changed_at(seconds: float) -> np.ndarray[Any, Any]:
    samples = SILENCE.copy()
    samples[round(seconds * RATE)] = 1
    return samples


def test_plan_same_input_is_planned_once(bench: Bench) -> None:
    bench.plan()
    known = bench.plan()
    for seconds in (11.5, 38.5):
        bench.plan(_changed_at(seconds))  # outside of its context
    assert bench.num_planned == 1
    assert pickle.dumps(known) == pickle.dumps(PLANNED)


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": _changed_at(12.5)},
        {"samples": _changed_at(25)},
        {"samples": _changed_at(37.5)},
        {"request": replace(BLOCK_REQUEST, expressiveness=1.2)},
        {"request": replace(BLOCK_REQUEST, playback=Playback("loop"))},
        {"request": replace(BLOCK_REQUEST, span=replace(BLOCK_REQUEST.span, first=501))},
        {"state": PathState(4, STATE.shape)},
        {"state": None},
        {"engine": "warp 28"},
        {"level": SpeechLevel(RATE * SECONDS, 1.1, -20.0)},
    ],
)
def test_plan_other_input_is_planned_again(bench: Bench, changes: dict[str, Any]) -> None:
    bench.plan()
    bench.plan(**changes)
    assert bench.num_planned == 2


def test_plan_of_the_revised_job_is_copied(bench: Bench) -> None:
    earlier, later = bench.job_ids
    bench.plan(job_ids=[earlier])
    bench.plan(job_ids=[later, earlier])
    bench.files.delete_job(earlier)
    bench.plan(job_ids=[later, earlier])
    assert bench.num_planned == 1
    for _ in range(2):
        bench.plan(job_ids=[later], context_seconds=None)
    assert bench.num_planned == 3, "without a known context, none is stored"


def test_plan_deleted_before_it_is_copied_is_used(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier, later = bench.job_ids
    bench.plan(job_ids=[earlier])
    monkeypatch.setattr(bench.files.stored, "copy", Mock(side_effect=StoredFileError("It is gone.")))
    bench.plan(job_ids=[later, earlier])
    assert bench.num_planned == 1


EXECUTED: list[str] = []


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"import {__name__} as this; this.EXECUTED.append('code of a stored plan')",)


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(Malicious()), pickle.dumps([1])])
def test_plan_damaged_file_is_planned_again(bench: Bench, content: bytes) -> None:
    bench.plan()
    (name,) = (name for name in bench.files.stored.entries(segments_folder(bench.job_ids[1])) if name != "speech.npy")
    on_disk(bench.files, plan_key(bench.job_ids[1], name.removeprefix("plan-"))).write_bytes(content)
    bench.plan()
    assert bench.num_planned == 2
    assert EXECUTED == []
