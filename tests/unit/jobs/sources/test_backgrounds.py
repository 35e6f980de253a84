"""Backgrounds and mattes over stages in memory, and what live sessions show of an avatar that changes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any
from unittest.mock import AsyncMock

import pytest

from lipwright.config import JobConfig, PipelineConfig
from lipwright.errors import (
    MediaError,
    MediaLimitError,
    NotFoundError,
    OptionError,
    ReplicaLostError,
    StateError,
    StoredFileError,
)
from lipwright.jobs.messages import AvatarRef, MatteRef, ProbeResult, ResolvedAvatar, SourceVideo
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.jobs.model.clip import AvatarClip
from lipwright.jobs.single_flight import Progress, ignore_progress
from lipwright.jobs.sources.avatars import Avatars
from lipwright.jobs.sources.backgrounds import Backgrounds
from lipwright.jobs.sources.clips import parts_of, store_composite
from lipwright.jobs.sources.live_avatars import LiveAvatars
from lipwright.jobs.sources.mattes import Mattes
from lipwright.media.matte import ScreenColour, matte_info
from lipwright.media.output.backgrounds import MatteMode
from lipwright.media.playback import AfterEnd
from lipwright.media.probe import ColourTags, VideoInfo
from lipwright.storage.file_keys import (
    BACKGROUNDS,
    MATTE_REPORT,
    MATTE_VIDEO,
    UPLOADS,
    avatar_folder,
    background_folder,
    source_key,
)
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.row_codec import AvatarStatus
from lipwright.telemetry.log_context import CallContext
from models.avatar.folder import write_whole
from models.engines.catalog import EngineCatalog
from models.matting.report import MatteReport
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

    async def fit_background(self, context: Any, background: Any, shown: VideoInfo, after_end: Any, out: str) -> str:
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
        return (await self.backgrounds.create(writer.finish(), owner)).id

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


async def test_sweep_keeps_backgrounds_of_avatars(bench: Bench) -> None:
    file_id = await bench.send()
    avatar = bench.table.put_avatar(avatar_record("a", settings=AvatarSettings(background_id=file_id)))
    bench.age(file_id)
    await bench.backgrounds.sweep()
    with pytest.raises(StateError, match=avatar.id):
        await bench.backgrounds.delete(file_id, None)
    await bench.ensure(file_id)
    bench.table.update_avatar("a", settings=AvatarSettings())
    await bench.backgrounds.delete(file_id, None)
    with pytest.raises(NotFoundError):
        await bench.ensure(file_id)


KEY = "a" * 32


class SlowAvatars(Avatars):
    """Analyses and makes mattes at once; what happens in the meantime is `meanwhile` and `while_matting`."""

    meanwhile: Callable[[], Awaitable[object]] | None = None
    while_matting: Callable[[], Awaitable[object]] | None = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.mattes.ensure = self._matte  # type: ignore[method-assign]

    async def ensure(self, key: str, *arguments: Any, **options: Any) -> AvatarRef:
        if self.meanwhile is not None:
            await self.meanwhile()
        return AvatarRef(avatar_folder(key), SourceVideo(source_key(key), SHOWN))

    async def _matte(self, avatar: AvatarRef, mode: MatteMode, on_progress: Progress) -> MatteRef:
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

    def change(self, **settings: Any) -> None:
        self.table.update_avatar(KEY, settings=AvatarSettings(**settings))

    async def replace(self, file_id: str, **settings: Any) -> None:
        self.change(**settings)
        await self.backgrounds.delete(file_id, None)

    async def show(self, engine: str = "warp", **settings: Any) -> ResolvedAvatar:
        return await self.live.present(self.avatar, None, engine, AvatarSettings(**settings))


@pytest.fixture
def live(files: FileStore, table: JobTable) -> Live:
    return Live(files, table)


async def test_show_uses_avatar_settings_that_are_not_overridden(live: Live) -> None:
    live.change(expressiveness=0.6, motion=0.2)
    shown = await live.show()
    assert (shown.expressiveness, shown.behaviour.motion, shown.background) == (0.6, 0.2, None)
    shown = await live.show(expressiveness=1)
    assert (shown.expressiveness, shown.behaviour.motion) == (1, 0.2)
    assert (await live.show(engine="wav2lip")).expressiveness == 1, "it cannot scale the movement"
    assert (await live.show(engine="wav2lip:gan")).expressiveness == 1, "LiveSession may have its weights elsewhere"
    live.avatars.meanwhile = lambda: pytest.fail("analysed, although the session is refused")
    with pytest.raises(OptionError, match="wav2lip cannot scale the movement"):
        await live.show(expressiveness=0.6, engine="wav2lip")
    live.avatars.meanwhile = None
    with pytest.raises(OptionError, match="expression: a video keeps"):
        await live.show(expression="angry")


async def test_show_uses_settings_that_changed_during_analysis(live: Live) -> None:
    beach = await live.send()
    live.change(background_id=beach)
    live.avatars.meanwhile = lambda: live.replace(beach, background="blur", motion=0.2)
    shown = await live.show()
    assert shown.background is not None and (shown.background.colour, shown.background.file) == ("blur", None)
    assert shown.behaviour.motion == 0.2


async def test_show_uses_background_that_changed_during_matting(live: Live) -> None:
    beach, street = await live.send(), await live.send(b"street")
    live.change(background_id=beach)
    live.avatars.while_matting = lambda: live.replace(beach, background_id=street, matte="chroma")
    shown = await live.show()
    assert shown.background is not None and shown.background.matte.key == "chroma"
    assert shown.background.file is not None and street in shown.background.file.key


async def test_show_with_deleted_background_or_avatar_is_not_found(live: Live) -> None:
    beach = await live.send()
    live.avatars.meanwhile = lambda: live.backgrounds.delete(beach, None)
    with pytest.raises(NotFoundError, match="no background"):
        await live.show(background_id=beach)
    live.avatars.meanwhile = None
    live.avatars.while_matting = lambda: asyncio.to_thread(live.table.delete_avatar, KEY)
    with pytest.raises(NotFoundError, match="avatar was deleted"):
        await live.show(background="blur")


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


VIDEO = VideoInfo(64, 64, Fraction(25), 120, 4.8, 90, False, True, ColourTags(1, False, 1, 1), "hevc", "yuv420p", True)
AVATAR = AvatarRef(avatar_folder(KEY), SourceVideo(source_key(KEY), VIDEO))


class Matting(NoStages):
    """Writes pieces that name their frames."""

    def __init__(self, files: FileStore) -> None:
        self.files = files
        self.screen: ScreenColour | None = None
        self.made: list[tuple[int, int]] = []
        self.joined = 0
        self.lost_at: int | None = None

    async def find_screen(self, *_: Any) -> ScreenColour | None:
        return self.screen

    async def matte(self, context: Any, avatar: Any, screen: Any, start: int, stop: int, before: Any, out: str) -> None:
        await asyncio.sleep(0)
        if start == self.lost_at:
            raise ReplicaLostError("LandmarkGenerator ended.")
        assert (before is None) == (start == 0)
        self.made.append((start, stop))
        self.files.stored.put(out, b"%d-%d" % (start, stop))

    async def join_matte(self, context: Any, avatar: AvatarRef, part: str, screen: Any, pieces: Sequence[str]) -> None:
        self.joined += 1
        content = b""
        for piece in pieces:
            with self.files.stored.fetched(piece) as path:
                content += path.read_bytes() + b";"
        if b"damaged" in content:
            raise StoredFileError("this piece of a matte is damaged")
        with self.files.stored.written_folder(avatar.folder, part, MATTE_REPORT) as made:
            (made / part / MATTE_VIDEO).write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            mode = "person" if screen is None else "chroma"
            report = MatteReport(mode=mode, screen=screen, sha256=sha256, uncertain_share=0.02)
            write_whole(made / part / MATTE_REPORT, report.model_dump(mode="json"))


class MatteBench:
    def __init__(self, files: FileStore) -> None:
        self.files, self.stages = files, Matting(files)
        self.mattes = Mattes(PipelineConfig(), self.stages, files)

    async def ensure(self, mode: MatteMode = "person", on_progress: Progress = ignore_progress) -> MatteRef:
        return await self.mattes.ensure(AVATAR, mode, on_progress)


@pytest.fixture
def matting(files: FileStore) -> MatteBench:
    return MatteBench(files)


PIECES = [(0, 48), (48, 96), (96, 120)]


async def test_callers_share_the_work_and_the_result_is_kept(matting: MatteBench) -> None:
    report = AsyncMock()
    first, *others = await asyncio.gather(*(matting.ensure("auto", report) for _ in range(3)))
    assert others == [first, first] and matting.stages.made == PIECES and matting.stages.joined == 1
    assert first.report.mode == "person" and first.report.screen is None
    assert first.info == replace(first.info, rotation=0, num_frames=120, width=64, has_audio=False)
    assert on_disk(matting.files, first.key).read_bytes() == b"0-48;48-96;96-120;"
    shares = [call.args[0] for call in report.await_args_list]
    assert shares == sorted(shares) and shares[-1] > 0.9
    again = Mattes(PipelineConfig(), NoStages(), matting.files)
    assert await again.ensure(AVATAR, "auto", ignore_progress) == first


async def test_a_screen_is_keyed_if_there_is_one(matting: MatteBench) -> None:
    with pytest.raises(OptionError, match="green or blue screen"):
        await matting.ensure("chroma")
    matting.stages.screen = ScreenColour(60, 50)
    for made in (await matting.ensure("auto"), await matting.ensure("chroma")):
        assert made.report.mode == "chroma" and made.report.screen == matting.stages.screen
    assert (await matting.ensure("person")).report.mode == "person"


@pytest.mark.parametrize("is_damaged", [False, True])
async def test_interrupted_work_continues_with_whole_pieces(matting: MatteBench, is_damaged: bool) -> None:
    matting.stages.lost_at = 96
    with pytest.raises(ReplicaLostError):
        await matting.ensure()
    if is_damaged:
        (piece,) = matting.files.root.rglob("0000048.npz")
        piece.write_bytes(b"damaged")
    matting.stages.lost_at = None
    made = await matting.ensure()
    assert matting.stages.made == (PIECES * 2 if is_damaged else PIECES), "all again, or the last one"
    on_disk(matting.files, made.key).write_bytes(b"damaged")
    assert await matting.ensure() == made
    assert matting.stages.made[-3:] == PIECES
