"""Backgrounds, and what live sessions show of an avatar that changes, over stages in memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from config import JobConfig, PipelineConfig
from errors import MediaError, MediaLimitError, NotFoundError, OptionError, StateError
from jobs.messages import AvatarRef, MatteRef, ProbeResult, ResolvedAvatar, SourceVideo
from jobs.model.avatar_settings import AvatarSettings
from jobs.model.clip import AvatarClip
from jobs.requests import BackgroundRequest
from jobs.single_flight import Progress, ignore_progress
from jobs.sources.avatars import Avatars
from jobs.sources.backgrounds import Backgrounds
from jobs.sources.clips import parts_of, store_composite
from jobs.sources.live_avatars import LiveAvatars
from media.matte import matte_info
from media.output.backgrounds import MatteMode
from media.playback import AfterEnd
from media.probe import VideoInfo
from models.engines.catalog import EngineCatalog
from models.matting.report import MatteReport
from storage.file_keys import BACKGROUNDS, UPLOADS, avatar_folder, background_folder, source_key
from storage.file_store import FileStore
from storage.job_table import JobTable
from storage.row_codec import AvatarStatus
from telemetry.log_context import CallContext
from tests.unit.job_records import avatar_record
from tests.unit.jobs.no_stages import NoStages
from tests.unit.jobs.sources.test_clips import GRAPH
from tests.unit.jobs.sources.test_clips import VIDEO as SHOWN
from tests.unit.on_disk import on_disk

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

    def age(self, file_id: str) -> None:
        unused_since = time.time() - CONFIG.live.max_session_s - 7200
        os.utime(on_disk(self.files, background_folder(file_id)), (unused_since, unused_since))

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
    on_disk(bench.files, first.key).write_bytes(b"damaged")
    assert await bench.ensure(file_id) == first
    assert on_disk(bench.files, first.key).read_bytes() == b"64 loop"


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
    for file_id in (old, used):
        bench.age(file_id)
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
    bench.age(file_id)
    await bench.backgrounds.sweep()
    with pytest.raises(StateError, match=avatar.id):
        await bench.backgrounds.delete(file_id, None)
    await bench.ensure(file_id)
    bench.table.update_avatar("a", settings=AvatarSettings())
    await bench.backgrounds.delete(file_id, None)
    with pytest.raises(NotFoundError):
        await bench.ensure(file_id)


NOTHING = AvatarSettings()
KEY = "a" * 32
CALM = AvatarSettings(expressiveness=0.6, motion=0.2)


class SlowAvatars(Avatars):
    """Analyses and makes mattes at once; what happens in the meantime is `meanwhile` and `while_matting`."""

    meanwhile: Callable[[], Awaitable[object]] | None = None
    while_matting: Callable[[], Awaitable[object]] | None = None

    async def ensure(self, key: str, *arguments: Any, **options: Any) -> AvatarRef:
        if self.meanwhile is not None:
            await self.meanwhile()
        return AvatarRef(avatar_folder(key), SourceVideo(source_key(key), SHOWN))

    async def matte(self, avatar: AvatarRef, mode: MatteMode, on_progress: Progress) -> MatteRef:
        if self.while_matting is not None:
            change, self.while_matting = self.while_matting, None
            await change()
        return MatteRef(mode, matte_info(SHOWN), MatteReport(mode="person", screen=None, sha256="", uncertain_share=0))


class Live(Bench):
    """An avatar, and sessions that show it."""

    def __init__(self, files: FileStore, table: JobTable) -> None:
        super().__init__(files, table)
        self.avatars = SlowAvatars(CONFIG, self.stages, self.table, self.files)
        engines = EngineCatalog(PipelineConfig(data_dir=files.root))
        self.live = LiveAvatars(self.avatars, self.backgrounds, engines, asyncio.Semaphore(1))
        self.avatar = self.table.put_avatar(avatar_record(KEY))

    def change(self, settings: AvatarSettings) -> None:
        self.table.update_avatar(KEY, settings=settings)

    async def replace(self, file_id: str, settings: AvatarSettings) -> None:
        self.change(settings)
        await self.backgrounds.delete(file_id, None)

    async def show(self, settings: AvatarSettings = NOTHING, engine: str = "warp") -> ResolvedAvatar:
        return await self.live.present(self.avatar, None, engine, settings)


@pytest.fixture
def live(files: FileStore, table: JobTable) -> Live:
    return Live(files, table)


async def test_show_uses_avatar_settings_that_are_not_overridden(live: Live) -> None:
    live.change(CALM)
    shown = await live.show()
    assert (shown.expressiveness, shown.behaviour.motion, shown.background) == (0.6, 0.2, None)
    shown = await live.show(AvatarSettings(expressiveness=1))
    assert (shown.expressiveness, shown.behaviour.motion) == (1, 0.2)
    assert (await live.show(engine="wav2lip")).expressiveness == 1, "it cannot scale the movement"
    assert (await live.show(engine="wav2lip:gan")).expressiveness == 1, "LiveSession may have its weights elsewhere"
    live.avatars.meanwhile = lambda: pytest.fail("analysed, although the session is refused")
    with pytest.raises(OptionError, match="wav2lip cannot scale the movement"):
        await live.show(AvatarSettings(expressiveness=0.6), engine="wav2lip")
    live.avatars.meanwhile = None
    with pytest.raises(OptionError, match="expression: a video keeps"):
        await live.show(AvatarSettings(expression="angry"))


async def test_show_uses_settings_that_changed_during_analysis(live: Live) -> None:
    beach = await live.send()
    live.change(AvatarSettings(background_id=beach))
    live.avatars.meanwhile = lambda: live.replace(beach, AvatarSettings(background="blur", motion=0.2))
    shown = await live.show()
    assert shown.background is not None and (shown.background.colour, shown.background.file) == ("blur", None)
    assert shown.behaviour.motion == 0.2


async def test_show_uses_background_that_changed_during_matting(live: Live) -> None:
    beach, street = await live.send(), await live.send(b"street")
    live.change(AvatarSettings(background_id=beach))
    live.avatars.while_matting = lambda: live.replace(beach, AvatarSettings(background_id=street, matte="chroma"))
    shown = await live.show()
    assert shown.background is not None and shown.background.matte.key == "chroma"
    assert shown.background.file is not None and street in shown.background.file.key


async def test_show_with_deleted_background_or_avatar_is_not_found(live: Live) -> None:
    beach = await live.send()
    live.avatars.meanwhile = lambda: live.backgrounds.delete(beach, None)
    with pytest.raises(NotFoundError, match="no background"):
        await live.show(AvatarSettings(background_id=beach))
    live.avatars.meanwhile = None
    live.avatars.while_matting = lambda: asyncio.to_thread(live.table.delete_avatar, KEY)
    with pytest.raises(NotFoundError, match="avatar was deleted"):
        await live.show(AvatarSettings(background="blur"))


async def test_show_with_ready_clips_shows_their_composite(live: Live) -> None:
    clip = live.table.put_avatar(avatar_record("c" * 32, belongs_to=KEY))
    clips = {"wave": AvatarClip(kind="action", key=clip.key, created_at=clip.created_at)}
    avatar = live.table.update_avatar(KEY, clips=clips)
    assert (await live.show()).avatar.folder == avatar_folder(KEY), "the clip is still analysed"
    live.table.update_avatar(clip.key, status=AvatarStatus.READY)
    key = store_composite(live.table, avatar, parts_of(live.table, avatar))
    live.table.update_avatar(key, graph=GRAPH.to_json())
    shown = await live.show()
    assert (shown.avatar.folder, shown.graph) == (avatar_folder(key), GRAPH)
