"""The run of one job over stages in memory: its report counts every block, also after a restart."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import fields
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from lipwright.config import JobConfig, PipelineConfig, RenderConfig
from lipwright.errors import (
    FaceNotFoundError,
    LipwrightError,
    MediaError,
    OptionError,
    StageTimeoutError,
    StorageFullError,
    StoredFileError,
)
from lipwright.jobs.forecast import result_bytes
from lipwright.jobs.messages import (
    AvatarRef,
    BlockRequest,
    FrameText,
    OutputInfo,
    OutputPicture,
    PreparedSpeech,
    RenderedSegment,
    SegmentRequest,
    ShownBlock,
    SourceVideo,
)
from lipwright.jobs.model.base import new_id, utc_now
from lipwright.jobs.model.clip import AvatarClip
from lipwright.jobs.model.compute import ComputeTime, Metered, received
from lipwright.jobs.model.job_settings import JobSettings
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.model.turns import PlannedTurn
from lipwright.jobs.run import JobRun
from lipwright.jobs.segments.limiter import SegmentLimiter
from lipwright.jobs.sources.avatars import Avatars
from lipwright.media.phones import Closures
from lipwright.media.playback import LoopMode, Playback
from lipwright.media.probe import AudioInfo, ColourTags, VideoInfo
from lipwright.media.result.sound_mix import SoundSettings
from lipwright.storage.file_keys import job_file_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.row_codec import AvatarRecord
from lipwright.telemetry.log_context import CallContext
from models.clips.graph import ClipGraph
from models.engines.protocol import PlannedBlock
from models.engines.warp.plan import MouthPlan
from models.face.choice import FaceChoice
from models.mouth.motion import RunningStats
from models.quality.measures import BlockMeasures, SourceFacts
from models.quality.report import QualityReport
from models.speech.level import SpeechLevel
from tests.unit.clip_graphs import NOD, WAVE, acting_graph
from tests.unit.job_records import SOUND, avatar_record, job_record, job_services
from tests.unit.jobs.no_stages import NoStages
from tests.unit.on_disk import on_disk

SECONDS = 6.99
NOBODY = "f" * 32
VIDEO = VideoInfo(64, 64, Fraction(25), 50, 2.0, 0, False, False, ColourTags(1, False, 1, 1), "h264", "yuv420p", True)
AUDIO = AudioInfo(16000, 1, SECONDS, "pcm_s16le")
CONFIG = PipelineConfig(render=RenderConfig(block_seconds=2, segment_seconds=0.5, first_segment_seconds=0.5))


def measures_of(first: int, stop: int) -> BlockMeasures:
    """As if frame i had an opening of i / 1000, and every tenth frame no face."""
    frames = np.arange(first, stop)
    passed = np.array([(frames % 10 > 0).sum(), (frames % 10 == 0).sum(), 0, 0, 0, 0])
    speech, size = RunningStats.of(frames / 1000), RunningStats.of(np.full(len(frames), 80.0))
    stats: dict[str, Any] = {"speech": speech, "silence": RunningStats(), "jitter": RunningStats()}
    counts: dict[str, Any] = dict.fromkeys(("num_skipped_open", "num_open_in_silence", "num_drawn"), 0)
    counts |= {"num_frames": len(frames), "num_by_reason": passed, "skipped": (), "used": np.arange(10) == first // 50}
    extremes = np.array([[80, -first, 0, 0], [80, stop, 0, 0.0]])
    source = SourceFacts(True, True, True, 10, False, None)
    return BlockMeasures(source, extremes=extremes, eye_distance=size, **stats, **counts)


class MemoryStages(NoStages):
    """Answers at once; `make_segment` says what is rendered from a frame on."""

    def __init__(self, files: FileStore, make_segment: Callable[[int], bytes] = lambda first: b"segment") -> None:
        self._files, self.make_segment, self.num_frames = files, make_segment, 175
        self.playbacks: set[Playback] = set()
        self.closures: list[Closures] = []
        self.texts: list[FrameText] = []
        self.sound: SoundSettings | None = None

    async def prepare_speech(self, context: CallContext, parts: Any, speech: str, *_: Any) -> PreparedSpeech:
        with self._files.stored.written(speech) as path, path.open("wb") as file:
            np.save(file, np.zeros(int(SECONDS * 16000), np.int16))
        return PreparedSpeech(speech, AUDIO, SpeechLevel(int(SECONDS * 16000), 1.0, -20.0))

    async def plan(self, context: CallContext, speech: PreparedSpeech, request: BlockRequest, state: Any) -> ShownBlock:
        span = request.span
        assert (span.fps, span.total) == (Fraction(25), self.num_frames)
        self.playbacks.add(request.playback)
        self.closures.append(request.closures)
        arrays: dict[str, Any] = {field.name: np.zeros(span.num, np.int32) for field in fields(MouthPlan)}
        drive = MouthPlan(**{**arrays, "first_frame": span.first})
        planned = PlannedBlock(drive, None, measures_of(span.first, span.stop))
        return ShownBlock(planned, np.zeros(span.num, np.int64))

    async def render(self, context: Any, request: SegmentRequest, out: str, watermark: Any) -> RenderedSegment:
        self.texts += watermark.texts
        plan = request.faces[0].plan
        assert isinstance(plan, MouthPlan)
        segment = self.make_segment(plan.first_frame)
        received(Metered(None, ComputeTime(2.0, 0.5)))
        await asyncio.to_thread(self._files.stored.put, out, segment)
        motion = RunningStats.of(np.full(len(plan), 0.06))
        return RenderedSegment(len(segment), hashlib.sha256(segment).hexdigest(), motion)

    async def join(self, context: CallContext, segments: Any, speech: Any, out: str, *rest: Any) -> None:
        output: OutputInfo = rest[-1]
        assert (output.num_frames, len(output.produce_id)) == (self.num_frames, 32)
        self.sound = output.sound
        await asyncio.to_thread(self._files.stored.put, out, b"whole")


class FixedAvatars(Avatars):
    """One source that was analysed before."""

    async def ensure(self, key: str, *_: Any, **options: Any) -> AvatarRef:
        return AvatarRef("avatar", SourceVideo("source", VIDEO))

    async def record(self, key: str) -> AvatarRecord:
        return avatar_record(key)

    async def is_intact(self, key: str, engine: str) -> bool:
        return True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.people = self  # type: ignore[assignment]

    async def resolve(self, sha256: str, owner: str | None, choice: FaceChoice) -> int | None:
        return 0 if str(choice) in ("largest", "person:0") else 1


class IntactAvatars(FixedAvatars):
    """Their sources are not damaged."""

    async def explain_input_error(self, key: str, error: LipwrightError) -> LipwrightError:
        return error


class RunBench:
    """A job that runs over stages in memory."""

    def __init__(self, files: FileStore, table: JobTable) -> None:
        self.files, self.table, self.stages = files, table, MemoryStages(files)
        self.job = table.insert_job(job_record(status=JobStatus.RUNNING))

    def run(
        self,
        job: JobRecord | None = None,
        audio: bytes = b"abc",
        config: PipelineConfig = CONFIG,
        avatars: type[FixedAvatars] = FixedAvatars,
        limiter: SegmentLimiter | None = None,
    ) -> dict[str, Any]:
        """Run a job, or the one that is there, and return its report."""
        job, table, files, stages = job or self.job, self.table, self.files, self.stages
        on_disk(files, job_file_key(job.id)).write_bytes(audio)
        services = job_services(config, stages, avatars(config, stages, table, files), table, files, limiter)
        table.update_job(job.id, plan=job.plan, turn_avatar_keys=job.turn_avatar_keys)

        async def to_the_end() -> None:
            try:
                await JobRun(services, job).run()
            finally:
                await table.run_in_thread(lambda: None)  # what the run has asked for is done

        asyncio.run(to_the_end())
        report = table.get_job(job.id).report
        assert report is not None
        return report

    def with_turns(self, *turns: PlannedTurn, **options: Any) -> JobRecord:
        """Return the job with turns."""
        job = self.job
        self.table.put_avatar(avatar_record(job.avatar_key, face="largest"))
        plan = job.plan.with_options(turns=turns, loop="source", **options)
        keys = {turn.face: NOBODY if turn.face == "person:1" else job.avatar_key for turn in turns if turn.face}
        return job.model_copy(update={"plan": plan, "turn_avatar_keys": keys})


@pytest.fixture
def bench(files: FileStore, table: JobTable) -> RunBench:
    return RunBench(files, table)


def test_run_with_two_voices_for_one_person_fails(bench: RunBench) -> None:
    """`largest` and `person:0` are known to be one person only when the video has been searched."""
    spoken = bench.with_turns(PlannedTurn(start=0, end=2), PlannedTurn(face="person:0", start=1, end=2))
    with pytest.raises(OptionError, match=r"turns\[0\] and turns\[1\] are two turns of the face of the job"):
        bench.run(spoken, avatars=IntactAvatars)


def test_run_burns_texts_into_their_segments(bench: RunBench) -> None:
    bench.stages.num_frames = VIDEO.num_frames
    turn = PlannedTurn(start=0, end=0.75, text="a")
    bench.run(bench.with_turns(turn, subtitles="burnt", idle_mouths="closed"))
    assert sorted(bench.stages.texts) == [(0, 7, "a"), (0, 12, "a")], "segments of 12 frames"


def test_run_with_a_person_who_does_not_exist_names_the_turn(bench: RunBench) -> None:
    class LonelyAvatars(IntactAvatars):
        async def ensure(self, key: str, *arguments: Any, **options: Any) -> AvatarRef:
            if key == NOBODY:
                raise FaceNotFoundError("face: expected person:0 (1 person is seen in the video).")
            return await super().ensure(key, *arguments, **options)

    spoken = bench.with_turns(PlannedTurn(start=0, end=1), PlannedTurn(face="person:1", start=1, end=2))
    with pytest.raises(FaceNotFoundError, match=r"^turns\[1\]: face: expected person:0"):
        bench.run(spoken, avatars=LonelyAvatars)


@pytest.mark.parametrize(
    ("audio", "kind", "found"),
    [
        (b"", StoredFileError, "expected the 3 bytes .* found 0"),
        (b"ab", StoredFileError, "expected the 3 bytes .* found 2"),
        (b"xyz", StoredFileError, ""),
        (b"abc", MediaError, "expected sound"),
    ],
    ids=["emptied", "cut", "changed", "whole"],
)
def test_run_with_changed_audio_is_a_stored_file_error(
    bench: RunBench, audio: bytes, kind: type[LipwrightError], found: str
) -> None:
    def refuse(first: int) -> bytes:
        raise MediaError("audio: expected sound, found none.")

    bench.stages.make_segment = refuse
    with pytest.raises(kind, match=f"^audio: {found}"):
        bench.run(audio=audio)


def test_run_plans_blocks_with_known_closures(bench: RunBench) -> None:
    spoken = SOUND.model_copy(update={"closures": ((0.5, 0.6), (1.95, 2.0), (5.0, 5.1))})
    bench.run(bench.table.insert_job(job_record(audio=spoken, status=JobStatus.RUNNING)))
    first, second, third = spoken.closures
    assert bench.stages.closures == [(first, second), (second,), (third,), ()]


@pytest.mark.parametrize(
    ("loop", "expected"),
    [
        ("cut", (50, Playback(), "The speech is 5.0 s longer than the video; the rest is cut off.")),
        ("source", (50, Playback(), "The speech is 5.0 s longer than the video; the rest is cut off.")),
        ("retime", (175, Playback(speed=0.5), "plays at 0.50 times its speed so that it ends with the speech.")),
        ("hold", (175, Playback("hold"), "")),
    ],
)
def test_run_fits_the_video_to_the_speech(bench: RunBench, loop: LoopMode, expected: tuple[int, Playback, str]) -> None:
    bench.stages.num_frames, playback, finding = expected
    plan = bench.job.plan.with_options(loop=loop, background_gain_db=-6.0)
    report = QualityReport.model_validate(bench.run(bench.job.model_copy(update={"plan": plan})))
    assert (bench.stages.playbacks, bench.stages.sound) == ({playback}, SoundSettings(-6.0, None))
    assert bench.table.get_job(bench.job.id).num_frames == report.output.num_frames == expected[0]
    assert finding in " ".join(report.summary)


def test_run_counts_every_segment_and_needs_disk_space(bench: RunBench) -> None:
    job, table, limiter, unfinished = bench.job, bench.table, SegmentLimiter(CONFIG), list[int]()

    def count(first: int) -> bytes:
        unfinished.append(limiter.num_planned.total() + limiter.num_in_flight.total())
        return b"segment"

    bench.stages.make_segment = count
    report = QualityReport.model_validate(bench.run(limiter=limiter))
    assert unfinished[0] == len(table.finished_segments(job.id)) > unfinished[-1]
    assert limiter.num_planned.total() == limiter.num_in_flight.total() == 0
    frames = np.arange(175)
    assert (report.output.num_frames, report.output.fps, report.output.duration_seconds) == (175, "25", 7.0)
    assert report.output.audio_minus_video_ms == pytest.approx(-10)
    assert report.mouth.num_speech_frames == 175
    assert report.mouth.opening_std_speech == pytest.approx(frames.std() / 1000, abs=1e-4)
    assert (report.face.num_frames_rewritten, report.face.num_frames_skipped) == (157, {"no_face": 18})
    assert report.face.yaw_degrees == (-150, 175)
    assert report.exemplars.num_used == 4
    assert report.mouth.motion_silence == pytest.approx(0.06)
    assert "18 frames left unchanged: no face found." in report.warnings
    counted = table.get_job(job.id)
    assert counted.result_seconds == 7.0
    assert counted.disk_bytes == result_bytes(OutputPicture.of(JobSettings(), VIDEO), 7.0)
    full = CONFIG.model_copy(update={"jobs": JobConfig(min_free_bytes=2**62)})
    table.update_job(job.id, disk_bytes=0, report=None)
    bench.files.delete_segments(job.id)
    with pytest.raises(StorageFullError, match="Not enough disk space"):
        bench.run(config=full)


def test_run_after_interruption_reports_all_segments(bench: RunBench) -> None:
    job, table, output = bench.job, bench.table, set[int]()

    def breaks(first: int) -> bytes:
        if first >= 110:
            raise StageTimeoutError("too late")
        return b"first run"

    def goes_on(first: int) -> bytes:
        output.add(first)
        return b"second run"

    bench.stages.make_segment = breaks
    with pytest.raises(ExceptionGroup):
        bench.run()
    assert 0 < table.usage.total("", utc_now().date()).video_seconds < 7
    assert table.get_job(job.id).report is None
    finished = {segment.start for segment in table.finished_segments(job.id)}
    table.update_job(job.id, attempts=3)
    bench.stages.make_segment = lambda first: breaks(110)
    with pytest.raises(ExceptionGroup):
        bench.run()
    assert table.get_job(job.id).attempts == 3, "what was output before is no progress"
    bench.stages.make_segment = goes_on
    resumed = bench.run()
    assert table.get_job(job.id).attempts == 0, "progress forgives earlier tries"
    assert finished and output and not finished & output, "finished segments are not output again"
    used, num_segments = table.usage.total("", utc_now().date()), len(table.finished_segments(job.id))
    assert used.video_seconds == pytest.approx(175 / 25), "each segment counts once"
    assert (used.cpu_seconds, used.gpu_seconds) == (2 * num_segments, num_segments / 2)
    assert resumed == bench.run(table.insert_job(job.model_copy(update={"id": new_id(), "queue_position": None})))


class ActingAvatars(IntactAvatars):
    """A composite with two actions."""

    async def graph(self, key: str) -> ClipGraph | None:
        return acting_graph()


def test_run_with_clips_shows_actions_and_splits_the_path(bench: RunBench) -> None:
    spec = JobSpec(text="Hello. [wave] Welcome.", avatar_id="a")
    clips = {name: AvatarClip(kind="action", key=name, created_at=utc_now()) for name in ("wave", "nod")}
    plan = bench.job.plan.with_options(loop="natural", action="nod").model_copy(update={"clips": clips, "seed": 5})
    acting = bench.job.model_copy(update={"plan": plan, "spec": spec})
    bench.table.update_job(acting.id, spec=spec)
    bench.run(acting, avatars=ActingAvatars)

    actions, playbacks = bench.table.get_job(acting.id).plan.actions, bench.stages.playbacks
    assert actions is not None and [action.name for action in actions] == ["nod", "wave"]
    firsts = sorted(playback.path[0][0] for playback in playbacks)
    assert firsts == [0, 50, 100, 150], "each block has its part"
    shown = {position: frame for playback in playbacks for position, frame in playback.path}
    assert [frame for _, frame in sorted(shown.items()) if frame in (NOD.start, WAVE.start)] == [NOD.start, WAVE.start]

    bench.stages = MemoryStages(bench.files)
    bench.files.delete_job(acting.id)
    bench.run(acting, avatars=ActingAvatars)
    assert bench.stages.playbacks == playbacks
