"""Mattes over stages that write small files: made once, continued after an interruption, made again when damaged."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any
from unittest.mock import AsyncMock

import pytest

from config import PipelineConfig
from errors import OptionError, ReplicaLostError, StoredFileError
from jobs.messages import AvatarRef, SourceVideo
from jobs.single_flight import ignore_progress
from jobs.sources.mattes import Mattes
from media.matte import ScreenColour
from media.output.backgrounds import MatteMode
from media.probe import ColourTags, VideoInfo
from models.avatar.folder import write_whole
from models.matting.report import MatteReport
from storage.file_keys import MATTE_REPORT, MATTE_VIDEO, avatar_folder, source_key
from storage.file_store import FileStore
from tests.unit.jobs.no_stages import NoStages
from tests.waiting import until

KEY = "0" * 32
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


class Bench:
    def __init__(self, files: FileStore) -> None:
        self.root, self.files, self.stages = files.root, files, Matting(files)
        self.mattes = Mattes(PipelineConfig(), self.stages, self.files)


@pytest.fixture
def bench(files: FileStore) -> Bench:
    return Bench(files)


PIECES = [(0, 48), (48, 96), (96, 120)]


async def test_callers_share_the_work_and_the_result_is_kept(bench: Bench) -> None:
    report = AsyncMock()
    calls = [bench.mattes.ensure(AVATAR, "auto", report) for _ in range(3)]
    first, *others = await asyncio.gather(*calls)
    assert others == [first, first] and bench.stages.made == PIECES and bench.stages.joined == 1
    assert first.report.mode == "person" and first.report.screen is None
    assert first.info == replace(first.info, rotation=0, num_frames=120, width=64, has_audio=False)
    assert (bench.root / first.key).read_bytes() == b"0-48;48-96;96-120;"
    shares = [call.args[0] for call in report.await_args_list]
    assert shares == sorted(shares) and shares[-1] > 0.9
    again = Mattes(PipelineConfig(), NoStages(), bench.files)
    assert await again.ensure(AVATAR, "auto", ignore_progress) == first


async def test_a_screen_is_keyed_if_there_is_one(bench: Bench) -> None:
    with pytest.raises(OptionError, match="green or blue screen"):
        await bench.mattes.ensure(AVATAR, "chroma", ignore_progress)
    bench.stages.screen = ScreenColour(60, 50)
    modes: list[MatteMode] = ["auto", "chroma"]
    for mode in modes:
        made = await bench.mattes.ensure(AVATAR, mode, ignore_progress)
        assert made.report.mode == "chroma" and made.report.screen == bench.stages.screen
    made = await bench.mattes.ensure(AVATAR, "person", ignore_progress)
    assert made.report.mode == "person"


async def test_work_continues_where_it_was_interrupted(bench: Bench) -> None:
    bench.stages.lost_at = 96
    with pytest.raises(ReplicaLostError):
        await bench.mattes.ensure(AVATAR, "person", ignore_progress)
    bench.stages.lost_at = None
    await bench.mattes.ensure(AVATAR, "person", ignore_progress)
    assert bench.stages.made == PIECES, "no piece is made twice"


async def test_a_damaged_piece_and_a_damaged_matte_are_made_again(bench: Bench) -> None:
    bench.stages.lost_at = 96
    with pytest.raises(ReplicaLostError):
        await bench.mattes.ensure(AVATAR, "person", ignore_progress)
    (piece,) = bench.root.rglob("0000048.npz")
    piece.write_bytes(b"damaged")
    bench.stages.lost_at = None
    made = await bench.mattes.ensure(AVATAR, "person", ignore_progress)
    assert bench.stages.made.count((48, 96)) == 2
    (bench.root / made.key).write_bytes(b"damaged")
    assert await bench.mattes.ensure(AVATAR, "person", ignore_progress) == made
    assert bench.stages.made.count((48, 96)) == 3


async def test_the_last_caller_who_leaves_ends_the_work(bench: Bench) -> None:
    async def pause(share: float) -> None:
        await asyncio.sleep(60)

    report = AsyncMock(side_effect=pause)
    calls = [asyncio.create_task(bench.mattes.ensure(AVATAR, "person", report)) for _ in range(2)]
    await until(lambda: report.called)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await asyncio.sleep(0)
    assert bench.stages.made == PIECES[:1] and not bench.stages.joined
    await bench.mattes.ensure(AVATAR, "person", ignore_progress)
    assert bench.stages.made == PIECES
