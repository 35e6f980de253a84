"""Files of a job that were damaged under its hands, on real segments: they are output again, and the video is right."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

from lipwright.config import JobConfig, PipelineConfig
from lipwright.errors import MediaError, StageTimeoutError, StoredFileError
from lipwright.jobs.messages import AvatarRef, RenderedSegment, SegmentRequest
from lipwright.jobs.model.record import JobStatus
from lipwright.jobs.run import JobRun
from lipwright.media.audio_parts import AudioPart
from lipwright.media.result.concat import concat_segments
from lipwright.media.result.sound_mix import ResultSound
from lipwright.media.writer import SegmentWriter
from lipwright.storage.file_keys import job_file_key, result_key, segment_key, source_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.telemetry.log_context import CallContext
from models.engines.warp.plan import MouthPlan
from models.mouth.motion import RunningStats
from tests.unit.job_records import SOUND, avatar_record, job_record
from tests.unit.jobs.job_bench import JobBench
from tests.unit.jobs.test_run import CONFIG, SECONDS, VIDEO, FixedAvatars, MemoryStages
from tests.unit.media.clips import decode_all, noise, planes_of, write_audio
from tests.unit.on_disk import on_disk

NUM_TRIES = 3
RUN_CONFIG = CONFIG.model_copy(update={"jobs": JobConfig(max_attempts=NUM_TRIES)})


class FilmStages(MemoryStages):
    """Encodes and joins real segments; `after(path)` is called with each that was written."""

    def __init__(self, bench: Bench, after: Callable[[Path], None] = lambda path: None) -> None:
        super().__init__(bench.files, lambda first: b"")
        self.after, self.rendered = after, list[int]()

    async def render(self, context: CallContext, request: SegmentRequest, out: str, *_: Any) -> RenderedSegment:
        plan = request.faces[0].plan
        assert isinstance(plan, MouthPlan)
        writer = SegmentWriter(VIDEO, 30, "ultrafast")
        for number in range(len(plan)):
            writer.write(planes_of(plan.first_frame + number, 64, 64))
        segment, path = writer.finish(), on_disk(self._files, out)
        await asyncio.to_thread(self._files.stored.put, out, segment)
        self.rendered.append(int(path.stem))
        self.after(path)
        motion = RunningStats(len(plan), 0.06 * len(plan))
        return RenderedSegment(len(segment), hashlib.sha256(segment).hexdigest(), motion)

    async def join(self, context: CallContext, segments: Any, speech: Any, out: str, *rest: Any) -> None:
        paths = [on_disk(self._files, segment) for segment in segments]
        sound = ResultSound([AudioPart(on_disk(self._files, speech[0].file))])
        result, num_frames = on_disk(self._files, out), rest[-1].num_frames
        await asyncio.to_thread(concat_segments, paths, sound, result, VIDEO, num_frames)


class Bench:
    """One job in a data folder."""

    def __init__(self, files: FileStore, table: JobTable) -> None:
        self.files, self.table = files, table
        sound = files.root.parent / "a.wav"
        write_audio(sound, noise(SECONDS, 16000)[None], 16000, "pcm_s16le", sample_format="s16")
        digest = hashlib.sha256(sound.read_bytes()).hexdigest()
        audio = SOUND.model_copy(update={"sha256": digest, "num_bytes": sound.stat().st_size})
        self.job = table.insert_job(job_record(audio=audio, status=JobStatus.RUNNING))
        sound.rename(on_disk(files, job_file_key(self.job.id)))

    def run(
        self, stages: FilmStages, avatars: type[FixedAvatars] = FixedAvatars, config: PipelineConfig = RUN_CONFIG
    ) -> list[bytes]:
        """The frames of the result."""
        services = JobBench(self.files, self.table, stages, config, avatars).services
        asyncio.run(JobRun(services, self.job).run())
        return [frame.tobytes() for _, frame in decode_all(on_disk(self.files, result_key(self.job.id)))]

    def run_until_joined(self) -> None:
        """Render every segment; then the service ends."""
        stages = FilmStages(self)
        stages.join = AsyncMock(side_effect=StageTimeoutError("the service ends here"))  # type: ignore[method-assign]
        with pytest.raises(StageTimeoutError):
            self.run(stages)


@pytest.fixture
def bench(files: FileStore, table: JobTable) -> Bench:
    return Bench(files, table)


def zero(path: Path) -> None:
    """2 kB in the middle are lost; the size stays, and the file can still be read."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + min(2048, len(content) // 4)] = bytes(min(2048, len(content) // 4))
    path.write_bytes(content)


HARMS: dict[int, Callable[[Path], Any]] = {
    2: zero,
    5: lambda path: path.write_bytes(path.read_bytes()[:500]),
    8: lambda path: path.unlink(),
}


def test_run_with_damaged_segments_renders_them_again(bench: Bench, tmp_path: Path) -> None:
    quiet = Bench(FileStore(tmp_path / "quiet"), bench.table)
    expected, harmed = quiet.run(FilmStages(quiet)), set[int]()

    def harm_once(path: Path) -> None:
        for number in HARMS.keys() - harmed:
            earlier = path.with_stem(f"{number:06}")
            if path != earlier and earlier.exists():
                harmed.add(number)
                HARMS[number](earlier)

    stages = FilmStages(bench, harm_once)
    assert bench.run(stages) == expected
    assert sorted(stages.rendered) == sorted([*range(14), *HARMS]), "nothing else was output again"
    report = bench.table.get_job(bench.job.id)
    assert report.num_frames_done == report.num_frames == 175


def test_run_after_restart_reuses_only_intact_segments(bench: Bench) -> None:
    bench.run_until_joined()
    zero(on_disk(bench.files, segment_key(bench.job.id, 3)))
    again = FilmStages(bench)
    assert len(bench.run(again)) == 175
    assert again.rendered == [3]


@pytest.mark.parametrize("change", [{"preset": "veryfast"}, {"crf": 25}, {"encoder": "nvenc"}])
def test_run_with_other_encoder_renders_all_segments_again(bench: Bench, change: dict[str, Any]) -> None:
    bench.run_until_joined()
    render = RUN_CONFIG.render.model_copy(update=change)
    again = FilmStages(bench)
    assert len(bench.run(again, config=RUN_CONFIG.model_copy(update={"render": render}))) == 175
    assert sorted(again.rendered) == list(range(14))


def test_run_with_endless_damage_fails(bench: Bench) -> None:
    stages = FilmStages(bench, zero)
    with pytest.raises(StoredFileError, match=r"^Expected 14 segments as they were rendered, found 14 gone or changed"):
        bench.run(stages)
    assert len(stages.rendered) == 14 * NUM_TRIES
    assert not on_disk(bench.files, result_key(bench.job.id)).exists()


def test_run_with_damaged_avatar_makes_it_again(bench: Bench) -> None:
    asked: list[str] = []

    class Damaged(FixedAvatars):
        async def ensure(self, *arguments: Any, **options: Any) -> AvatarRef:
            asked.append("ensure")
            return await super().ensure(*arguments, **options)

        async def is_intact(self, key: str, engine: str) -> bool:
            asked.append("is intact")
            return len(asked) > 2

    class Fails(FilmStages):
        async def render(self, *arguments: Any) -> RenderedSegment:
            if len(asked) < 2:
                raise StoredFileError("the track cannot be read")
            return await super().render(*arguments)

    assert len(bench.run(Fails(bench), Damaged)) == 175
    assert asked == ["ensure", "is intact", "ensure"]


def test_run_with_error_but_no_damage_raises_at_once(bench: Bench) -> None:
    stages, render = FilmStages(bench), AsyncMock(side_effect=StageTimeoutError("too late"))
    stages.render = render  # type: ignore[method-assign]
    with pytest.raises(ExceptionGroup):
        bench.run(stages)
    assert render.call_count <= RUN_CONFIG.render.segment_window


@pytest.mark.parametrize("is_intact", [True, False])
def test_run_with_damaged_source_is_a_stored_file_error(bench: Bench, is_intact: bool) -> None:
    key = bench.job.avatar_key
    bench.table.put_avatar(avatar_record(key, source_sha256=hashlib.sha256(b"film").hexdigest()))
    on_disk(bench.files, source_key(key)).write_bytes(b"film" if is_intact else b"fil\0")

    stages, error = FilmStages(bench), MediaError("source: expected frames that can be decoded, found none.")
    stages.render = AsyncMock(side_effect=error)  # type: ignore[method-assign]
    expected, words = (MediaError, "cannot|can be decoded") if is_intact else (StoredFileError, "^source: ")
    with pytest.raises(expected, match=words):
        bench.run(stages)
