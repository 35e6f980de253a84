"""Backgrounds of live sessions over stages in memory: checked when they are sent, and fitted once for each form."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from dataclasses import replace
from fractions import Fraction

import pytest

from config import JobConfig, PipelineConfig
from errors import MediaError, MediaLimitError, NotFoundError, StateError
from jobs.messages import ProbeResult, SourceVideo
from jobs.model.avatar_settings import AvatarSettings
from jobs.requests import BackgroundRequest
from jobs.single_flight import ignore_progress
from jobs.sources.backgrounds import Backgrounds
from media.playback import AfterEnd
from media.probe import ColourTags, VideoInfo
from storage.file_keys import BACKGROUNDS, UPLOADS, background_folder
from storage.file_store import FileStore
from storage.job_table import JobTable
from telemetry.log_context import CallContext
from tests.unit.job_records import avatar_record
from tests.unit.jobs.no_stages import NoStages
from tests.unit.on_disk import on_disk

SHOWN = VideoInfo(64, 64, Fraction(25), 100, 4.0, 0, False, False, ColourTags(1, False, 1, 1), "h264", "yuv420p", True)
SENT = replace(SHOWN, width=320, height=180, fps=Fraction(50), num_frames=500, duration_seconds=10.0)
CONFIG = PipelineConfig(jobs=JobConfig(max_attempts=1, retention_s=1))


class Fitting(NoStages):
    """Writes files that name what they were made for."""

    def __init__(self, files: FileStore) -> None:
        self.files = files
        self.info = SENT
        self.error: Exception | None = None
        self.made: list[tuple[int, AfterEnd]] = []

    async def probe(self, context: CallContext, video: str | None, audio: str | None) -> ProbeResult:
        if self.error is not None:
            raise self.error
        return ProbeResult(self.info, None)

    async def fit_background(
        self, context: CallContext, background: SourceVideo, shown: VideoInfo, after_end: AfterEnd, out: str
    ) -> str:
        await asyncio.sleep(0)
        self.made.append((shown.width, after_end))
        content = f"{shown.width} {after_end}".encode()
        self.files.stored.put(out, content)
        return hashlib.sha256(content).hexdigest()


class Bench:
    def __init__(self, files: FileStore, table: JobTable) -> None:
        self.files, self.table, self.stages = files, table, Fitting(files)
        self.backgrounds = Backgrounds(CONFIG, self.stages, self.table, self.files)

    async def send(self, content: bytes = b"beach", owner: str | None = None) -> str:
        writer = self.files.new_upload("beach.mp4")
        writer.write(content)
        request = BackgroundRequest(background_file=writer.finish(), owner=owner)
        return (await self.backgrounds.create(request)).id

    async def ensure(self, file_id: str, shown: VideoInfo = SHOWN, after_end: AfterEnd = "loop") -> SourceVideo:
        return await self.backgrounds.ensure(file_id, None, shown, after_end, ignore_progress)


@pytest.fixture
def bench(files: FileStore, table: JobTable) -> Bench:
    return Bench(files, table)


async def test_ensure_shares_files_between_sessions_of_one_form(bench: Bench) -> None:
    file_id = await bench.send()
    assert await bench.send() == file_id and not list((bench.files.root / UPLOADS).iterdir())
    first, *others = await asyncio.gather(*(bench.ensure(file_id) for _ in range(3)))
    assert others == [first, first] and bench.stages.made == [(64, "loop")]
    assert (first.info.width, first.info.num_frames, first.info.fps) == (64, 250, SHOWN.fps)
    await bench.ensure(file_id, after_end="pingpong")
    await bench.ensure(file_id, replace(SHOWN, width=128))
    again = Backgrounds(CONFIG, NoStages(), bench.table, bench.files)
    assert await again.ensure(file_id, None, SHOWN, "loop", ignore_progress) == first
    assert bench.stages.made == [(64, "loop"), (64, "pingpong"), (128, "loop")]


async def test_ensure_with_damaged_file_makes_it_again(bench: Bench) -> None:
    file_id = await bench.send()
    made = await bench.ensure(file_id)
    on_disk(bench.files, made.key).write_bytes(b"damaged")
    assert await bench.ensure(file_id) == made
    assert on_disk(bench.files, made.key).read_bytes() == b"64 loop"


async def test_create_background_with_bad_file_is_refused(bench: Bench) -> None:
    bench.stages.info = replace(SENT, duration_seconds=61.0)
    with pytest.raises(MediaLimitError, match=r"at most 60 s.*found 61\.0 s"):
        await bench.send()
    bench.stages.error = MediaError("neither a picture nor a video")
    with pytest.raises(MediaError, match="neither"):
        await bench.send()
    assert not (bench.files.root / BACKGROUNDS).exists()


async def test_sweep_removes_only_unused_backgrounds(bench: Bench) -> None:
    old, used = [await bench.send(content) for content in (b"old", b"used")]
    age_s = CONFIG.live.max_session_s + 7200
    for file_id in (old, used):
        os.utime(on_disk(bench.files, background_folder(file_id)), (time.time() - age_s,) * 2)
    await bench.ensure(used)
    await bench.backgrounds.sweep()
    await bench.ensure(used)
    with pytest.raises(NotFoundError):
        await bench.ensure(old)
    await bench.backgrounds.delete(used, None)
    with pytest.raises(NotFoundError):
        await bench.ensure(used)


async def test_sweep_keeps_backgrounds_of_avatars(bench: Bench) -> None:
    file_id = await bench.send()
    settings = AvatarSettings(background_id=file_id)
    avatar = bench.table.put_avatar(avatar_record("a", settings=settings))
    age_s = CONFIG.live.max_session_s + 7200
    os.utime(on_disk(bench.files, background_folder(file_id)), (time.time() - age_s,) * 2)
    await bench.backgrounds.sweep()
    with pytest.raises(StateError, match=avatar.id):
        await bench.backgrounds.delete(file_id, None)
    await bench.ensure(file_id)
    bench.table.update_avatar("a", settings=AvatarSettings())
    await bench.backgrounds.delete(file_id, None)
    with pytest.raises(NotFoundError):
        await bench.ensure(file_id)
