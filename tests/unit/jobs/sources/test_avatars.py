"""Avatars over stages in memory: tracked once, whatever engines ask for them, and analysed once for each."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from lipwright.config import JobConfig, PipelineConfig
from lipwright.errors import FaceNotFoundError, StorageFullError, StoredFileError, UnavailableError
from lipwright.jobs.director import JobDirector
from lipwright.jobs.messages import AvatarRef, PreparedSpeech, ProbeResult, decode_source_info, encode_source_info
from lipwright.jobs.model.base import new_id
from lipwright.jobs.single_flight import ignore_progress
from lipwright.jobs.sources.analyses import AvatarAnalyses
from lipwright.jobs.sources.avatars import Avatars
from lipwright.media.probe import AudioInfo, ColourTags, VideoInfo
from lipwright.storage.file_keys import avatar_folder, face_key, source_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.row_codec import AvatarRecord, AvatarStatus
from lipwright.telemetry.log_context import CallContext
from models.avatar.folder import AVATAR_VERSION, INFO_FILE, file_hashes, write_whole
from models.face.choice import FaceChoice, recorded_face
from models.speech.level import SpeechLevel
from models.track.tracker import TrackState
from tests.unit.job_records import avatar_record
from tests.unit.jobs.no_stages import NoStages
from tests.unit.on_disk import on_disk
from tests.waiting import until

VIDEO = VideoInfo(64, 64, Fraction(25), 100, 4.0, 0, True, False, ColourTags(1, False, 1, 1), "h264", "yuv420p", True)
CONFIG = PipelineConfig(jobs=JobConfig(max_attempts=2))


class CountingStages(NoStages):
    """Does nothing and counts it."""

    def __init__(self, files: FileStore) -> None:
        self.files = files
        self.counts: Counter[str] = Counter()
        self.questions: Counter[str] = Counter()
        self.analysed: set[tuple[str, str]] = set()
        self.source_speech: list[PreparedSpeech | None] = []
        self.fault: Exception | None = None
        self.info = VIDEO

    async def probe(self, context: CallContext, video: str | None, audio: str | None) -> ProbeResult:
        self.questions["probe"] += 1
        return ProbeResult(self.info, None)

    async def prepare_speech(self, context: CallContext, parts: Any, speech: str, *_: Any) -> PreparedSpeech:
        return PreparedSpeech(speech, AudioInfo(16000, 1, 4.0, "aac"), SpeechLevel(64000, 1.0, -20.0))

    async def track(self, context: Any, source: Any, choice: Any, start: int, stop: int, *rest: Any) -> TrackState:
        self.counts["track"] += stop - start
        await asyncio.sleep(0.01)
        if self.fault is not None:
            raise self.fault
        assert (self.files.root / rest[-1]).parent.is_dir()
        return TrackState(None, None, None)

    async def reference(self, *_: Any) -> FaceChoice:
        return FaceChoice("like", (0.0,))

    async def build_avatar(self, context: CallContext, avatar: AvatarRef, tracks: Any, cuts: Any) -> bool:
        self.counts["build"] += 1
        with self.files.stored.written_folder(avatar.folder, "", INFO_FILE) as folder:
            (folder / "track.npz").write_bytes(b"landmarks")
            content = {"version": AVATAR_VERSION, "files": file_hashes(folder, ["track.npz"])}
            write_whole(folder / INFO_FILE, content)
        return True

    async def is_analysed(self, context: CallContext, engine: str, avatar: AvatarRef) -> bool:
        self.questions["is analysed"] += 1
        return (engine, avatar.folder) in self.analysed

    async def analyse(self, context: CallContext, engine: str, avatar: AvatarRef, source_speech: Any) -> None:
        self.counts[f"analyse {engine}"] += 1
        self.source_speech.append(source_speech)
        self.analysed.add((engine, avatar.folder))


class Bench:
    def __init__(self, files: FileStore, table: JobTable) -> None:
        self.files, self.table, self.stages = files, table, CountingStages(files)
        self.avatars = Avatars(CONFIG, self.stages, self.table, self.files)
        self.key = new_id()
        on_disk(self.files, source_key(self.key)).write_bytes(b"film")
        self.table.put_avatar(avatar_record(self.key, source_sha256=hashlib.sha256(b"film").hexdigest()))

    def row(self, key: str = "") -> AvatarRecord:
        found = self.table.find_avatar(key or self.key)
        assert found is not None
        return found

    def ensure(self, *engines: str) -> None:
        async def all_at_once() -> None:
            await asyncio.gather(*(self.avatars.ensure(self.key, engine, ignore_progress) for engine in engines))

        asyncio.run(all_at_once())


@pytest.fixture
def bench(files: FileStore, table: JobTable) -> Bench:
    return Bench(files, table)


def test_ensure_for_a_second_engine_reuses_the_track(bench: Bench) -> None:
    bench.ensure("warp", "warp", "wav2lip")
    assert bench.stages.counts == {"track": 100, "build": 1, "analyse warp": 1, "analyse wav2lip": 1}
    bench.ensure("wav2lip", "warp")
    assert bench.stages.counts["track"] == 100, "analysed for another engine, the track stays"
    assert bench.stages.counts["analyse wav2lip"] == 1
    assert all(speech is not None for speech in bench.stages.source_speech)
    info = bench.row().info
    assert bench.row().status is AvatarStatus.READY and info is not None and info.talks
    assert not (on_disk(bench.files, avatar_folder(bench.key)) / "tracking").exists()


@pytest.mark.parametrize("content", [b"land", b"land\0\0\0\0\0", None], ids=["cut", "changed", "gone"])
def test_ensure_with_damaged_track_makes_it_again(bench: Bench, content: bytes | None) -> None:
    bench.ensure("warp")
    path = on_disk(bench.files, avatar_folder(bench.key)) / "track.npz"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    bench.ensure("warp")
    assert (bench.stages.counts["track"], bench.stages.counts["build"]) == (200, 2)
    assert path.read_bytes() == b"landmarks"
    bench.ensure("warp")
    assert bench.stages.counts["build"] == 2, "and is known from then on"


def test_ensure_retries_unexpected_errors_but_no_input_errors(bench: Bench) -> None:
    bench.stages.info = replace(VIDEO, has_audio=False)
    bench.stages.fault = FaceNotFoundError("Found no face")
    with pytest.raises(FaceNotFoundError):
        bench.ensure("warp")
    assert bench.stages.counts["track"] == 48, "one chunk of one try"
    assert bench.row().status is AvatarStatus.FAILED
    bench.stages.fault = SystemError("AST constructor recursion depth mismatch")
    with pytest.raises(Exception, match="SystemError"):
        bench.ensure("warp")
    assert bench.stages.counts["track"] == 48 * 3, "tried twice"
    bench.stages.fault = None
    bench.ensure("warp")
    assert bench.stages.source_speech == [None], "the source is silent"


@pytest.mark.parametrize("name", ["source", "face"])
@pytest.mark.parametrize("left", [b"film", b"fil", None], ids=["whole", "cut", "gone"])
def test_ensure_with_lost_file_is_a_stored_file_error(bench: Bench, name: str, left: bytes | None) -> None:
    bench.stages.fault = FaceNotFoundError("face: expected a face, found none.")
    bench.table.update_avatar(bench.key, face=recorded_face("largest", hashlib.sha256(b"film").hexdigest()))
    on_disk(bench.files, face_key(bench.key)).write_bytes(b"film")
    path = on_disk(bench.files, source_key(bench.key) if name == "source" else face_key(bench.key))
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    is_whole = left == b"film"
    kind, words = (FaceNotFoundError, "^face: ") if is_whole else (StoredFileError, f"^{name}: the stored file is miss")
    with pytest.raises(kind, match=words):
        bench.ensure("warp")
    error = bench.row().error
    assert error is not None and error.code == kind.code


async def test_sweep_keeps_avatars_that_are_held(bench: Bench) -> None:
    await bench.avatars.pin(bench.key)
    newer = [bench.table.put_avatar(avatar_record()) for _ in range(CONFIG.jobs.max_cached_avatars + 1)]
    await bench.avatars.sweep()
    assert bench.table.find_avatar(bench.key) is not None
    assert bench.table.find_avatar(newer[0].key) is None, "the least used of the others"


async def test_evict_oldest_frees_cached_and_keeps_pinned(bench: Bench) -> None:
    bench.table.update_avatar(bench.key, pinned=True)
    cached = [new_id(), new_id()]
    for key in cached:
        on_disk(bench.files, source_key(key)).write_bytes(b"film")
        bench.table.put_avatar(avatar_record(key))
    assert await bench.avatars.evict_oldest()
    assert [bench.table.find_avatar(key) is not None for key in cached] == [False, True], "the least recently used"
    assert not bench.files.has(source_key(cached[0]))
    assert await bench.avatars.evict_oldest()
    assert not await bench.avatars.evict_oldest()
    assert bench.table.find_avatar(bench.key) is not None


async def test_evict_oldest_keeps_avatar_whose_matte_is_made(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    matte = AsyncMock(side_effect=asyncio.Event().wait)
    monkeypatch.setattr(CountingStages, "matte", matte, raising=False)
    avatar = await bench.avatars._find(bench.key)
    making = asyncio.create_task(bench.avatars.mattes.ensure(avatar, "person", ignore_progress))
    await until(lambda: matte.called)
    assert not await bench.avatars.evict_oldest()
    making.cancel()
    await asyncio.wait([making])


def _calls(bench: Bench, *engines: str) -> Counter[str]:
    """The calls that jobs of these engines make before their first blocks."""
    stages = bench.stages
    before = stages.counts + stages.questions
    bench.ensure(*engines)
    return stages.counts + stages.questions - before


def test_cached_avatar_needs_no_call_before_its_first_block(bench: Bench) -> None:
    bench.ensure("warp")
    assert _calls(bench, "warp") == {}
    assert _calls(bench, "wav2lip") == {"is analysed": 2, "analyse wav2lip": 1}, "the first job of another engine"
    assert _calls(bench, "wav2lip", "warp") == {}
    # The row of an older version is probed once.
    bench.table.update_avatar(bench.key, source_info=None, analysed_for={})
    assert _calls(bench, "warp") == {"probe": 1, "is analysed": 1}
    assert _calls(bench, "warp") == {}
    bench.table.update_avatar(bench.key, source_info={"width": 64})
    assert _calls(bench, "warp") == {"probe": 1}, "what another version wrote cannot be read"


def test_ensure_with_damaged_analysis_makes_it_again(bench: Bench) -> None:
    bench.ensure("warp")
    bench.stages.analysed.clear()
    assert _calls(bench, "warp") == {}, "the row is trusted; planning finds the damage"
    assert not asyncio.run(bench.avatars.is_intact(bench.key, "warp"))
    assert _calls(bench, "warp") == {"is analysed": 2, "analyse warp": 1}
    assert asyncio.run(bench.avatars.is_intact(bench.key, "warp"))
    bench.stages.analysed.clear()
    asyncio.run(bench.avatars.ensure(bench.key, "warp", ignore_progress, verify=True))
    assert bench.stages.counts["analyse warp"] == 3, "found at once where it is asked for"
    on_disk(bench.files, source_key(bench.key)).unlink()
    with pytest.raises(StoredFileError, match="source of avatar .* is gone"):
        bench.ensure("warp")


def test_source_info_in_the_table_is_exact() -> None:
    odd = replace(VIDEO, fps=Fraction(30000, 1001), duration_seconds=0.1 + 0.2, sample_aspect_ratio=Fraction(64, 45))
    assert decode_source_info(json.loads(json.dumps(encode_source_info(odd)))) == odd


async def _resume(bench: Bench) -> None:
    """Continue the analyses that callers asked for, and wait for their end."""
    analyses = AvatarAnalyses(bench.avatars, bench.table, "warp", asyncio.Semaphore(1))
    for _ in range(2):  # of one avatar, one runs
        await analyses.resume()
    await until(lambda: not analyses._running)


async def test_analyses_resume_continues_after_an_outage(bench: Bench) -> None:
    bench.table.update_avatar(bench.key, analyse_on_create=True)
    bench.stages.fault = UnavailableError("The bucket does not answer.")
    await _resume(bench)
    assert (bench.row().status, bench.row().error) == (AvatarStatus.ANALYSING, None)
    bench.stages.fault = None
    await _resume(bench)
    assert bench.row().status is AvatarStatus.READY and bench.stages.counts["analyse warp"] == 1


async def test_delete_avatar_during_analysis_cancels_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages, config = CountingStages(FileStore(tmp_path)), CONFIG.model_copy(update={"data_dir": tmp_path})
    director = JobDirector(config, stages, "", Mock(), {}, lambda job: {})
    monkeypatch.setattr(director, "_election", Mock())
    bench = Bench(director._files, director._table)
    monkeypatch.setattr(stages, "track", AsyncMock(side_effect=asyncio.Event().wait))
    director._analyses.start(bench.row())
    await until(lambda: list(director._avatars._analyses))
    await director.delete_avatar(bench.row().id, None)
    assert not director._analyses._running and not list(director._avatars._analyses)
    director._table.close()


@pytest.mark.parametrize("code", ["stored_file_lost", "internal"])
async def test_analyses_that_fail_record_the_error(bench: Bench, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    bench.table.update_avatar(bench.key, analyse_on_create=True, source_info=encode_source_info(VIDEO))
    if code == "stored_file_lost":
        bench.files.stored.remove(source_key(bench.key))
    else:
        monkeypatch.setattr(bench.avatars, "ensure", AsyncMock(side_effect=ValueError("a defect")))
    await _resume(bench)
    error = bench.row().error
    assert error is not None and error.code == code
    assert bench.table.analysing_avatars() == [], "it is not analysed again and again"


def test_ensure_whose_sweep_fails_returns_the_avatar(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.avatars, "sweep", AsyncMock(side_effect=StorageFullError("The disk is full.")))
    bench.ensure("warp")
    assert bench.row().status is AvatarStatus.READY
