"""What live sessions show of an avatar that is changed while they are prepared."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from config import PipelineConfig
from errors import NotFoundError, OptionError
from jobs.messages import AvatarRef, MatteRef, ResolvedAvatar, SourceVideo
from jobs.model.avatar_settings import AvatarSettings
from jobs.model.clip import AvatarClip
from jobs.single_flight import Progress
from jobs.sources.avatars import Avatars
from jobs.sources.clips import parts_of, store_composite
from jobs.sources.live_avatars import LiveAvatars
from media.matte import matte_info
from media.output.backgrounds import MatteMode
from models.engines.catalog import EngineCatalog
from models.matting.report import MatteReport
from storage.file_keys import avatar_folder, source_key
from storage.file_store import FileStore
from storage.job_table import JobTable
from storage.row_codec import AvatarStatus
from tests.unit.job_records import avatar_record
from tests.unit.jobs.sources.test_backgrounds import CONFIG, SHOWN, Bench
from tests.unit.jobs.sources.test_clips import GRAPH

NOTHING = AvatarSettings()
KEY = "a" * 32
CALM = AvatarSettings(expressiveness=0.6, motion=0.2)


class SlowAvatars(Avatars):
    """Analyses and makes mattes at once; what happens in the meantime is `meanwhile` and `while_matting`."""

    meanwhile: Callable[[], Awaitable[object]] | None = None
    while_matting: Callable[[], Awaitable[object]] | None = None

    async def ensure(self, key: str, engine: str | None, on_progress: Progress, *, verify: bool = False) -> AvatarRef:
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


async def test_show_of_a_video_refuses_an_expression(live: Live) -> None:
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
