"""Clips and composites over stages in memory: what is accepted, made once, made again, and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from lipwright.errors import FaceNotFoundError, LipwrightError, NotFoundError, OptionError, StateError
from lipwright.jobs.messages import AvatarRef, ClipPart, Composite, PreparedSpeech, encode_source_info
from lipwright.jobs.model.plan import JobOptions
from lipwright.jobs.requests import ClipForm
from lipwright.jobs.single_flight import ignore_progress
from lipwright.jobs.sources.avatar_submission import AvatarSubmissions
from lipwright.jobs.sources.backgrounds import Backgrounds
from lipwright.jobs.sources.clips import Clips, composite_key, parts_of, store_composite
from lipwright.media.audio_parts import AudioPart
from lipwright.media.playback import ClipKind
from lipwright.storage.file_keys import own_speech_key, source_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.row_codec import AvatarRecord, AvatarStatus
from lipwright.telemetry.log_context import CallContext
from models.clips.graph import OWN, Clip, ClipGraph
from models.face.choice import FaceChoice
from tests.unit.job_records import job_record
from tests.unit.jobs.sources.test_avatars import CONFIG, CountingStages
from tests.unit.jobs.sources.test_avatars import VIDEO as STILL
from tests.unit.jobs.sources.test_avatars import Bench as AvatarBench
from tests.unit.on_disk import on_disk

GRAPH = ClipGraph((Clip(OWN, None, 0, 100), Clip("wave", "action", 100, 200)), ())
VIDEO = replace(STILL, is_still=False)
PERSON = FaceChoice("like", (1.0,))


class ComposingStages(CountingStages):
    def __init__(self, files: FileStore) -> None:
        super().__init__(files)
        self.composed: list[list[tuple[str, ClipKind | None, str]]] = []
        self.choices: list[FaceChoice] = []
        self.heard: list[tuple[AudioPart[str], str]] = []  # and what was made of it
        self.cuts: Sequence[int] = ()  # of the last avatar that was built
        self.strangers: set[str] = set()  # sources without the person
        self.refusal: LipwrightError | None = None
        self.misfit: LipwrightError | None = None
        self.info = VIDEO

    async def appearance(self, context: CallContext, avatar: AvatarRef) -> FaceChoice:
        return PERSON

    async def prepare_speech(self, context: CallContext, parts: Any, speech: str, *rest: Any) -> PreparedSpeech:
        self.heard.append((parts[0], speech))
        return await super().prepare_speech(context, parts, speech, *rest)

    async def track(self, context: CallContext, source: Any, choice: FaceChoice, *rest: Any) -> Any:
        self.choices.append(choice)
        return await super().track(context, source, choice, *rest)

    async def build_avatar(self, context: CallContext, avatar: AvatarRef, tracks: Any, cuts: Any) -> bool:
        self.cuts = cuts
        if avatar.source.key in self.strangers:
            raise FaceNotFoundError("No face")
        return await super().build_avatar(context, avatar, tracks, cuts)

    async def check_fit(self, context: CallContext, clip: ClipPart, own: AvatarRef) -> None:
        if self.misfit is not None:
            raise self.misfit

    async def compose(self, context: CallContext, parts: Sequence[ClipPart], out: str) -> Composite:
        if self.refusal is not None:
            raise self.refusal
        self.composed.append([(part.name, part.kind, part.avatar.source.key) for part in parts])
        on_disk(self.files, out).write_bytes(b"composite")
        return Composite(GRAPH, replace(VIDEO, has_audio=False), hashlib.sha256(b"composite").hexdigest())


class Bench(AvatarBench):
    def __init__(self, files: FileStore, table: JobTable) -> None:
        super().__init__(files, table)
        self.stages: ComposingStages = ComposingStages(files)
        self.avatars._stages = self.stages
        backgrounds = Backgrounds(CONFIG, self.stages, table, files)
        submissions = AvatarSubmissions(self.stages, table, files, backgrounds, self.avatars.folder_lock)
        self.clips = Clips(self.stages, table, files, submissions)
        self.own_id = table.update_avatar(self.key, pinned=True, source_info=encode_source_info(VIDEO)).id

    @property
    def own(self) -> AvatarRecord:
        return self.row(self.key)

    def form(self, name: str, content: bytes | None = None) -> ClipForm:
        writer = self.files.new_upload(f"{name}.mp4")
        writer.write(content or name.encode())
        return ClipForm(name=name, kind="action", video=writer.finish())

    async def add(self, name: str) -> str:
        """Add a clip; return the key of its row."""
        return (await self.clips.add(self.own_id, self.form(name), None))[1].key

    async def composite(self, engine: str | None = "warp") -> str:
        """Add a clip, and make the composite; return its key."""
        await self.avatars.ensure(await self.add("wave"), None, ignore_progress)
        key = await self.avatars.composite_of(self.key)
        await self.avatars.ensure(key, engine, ignore_progress)
        return key

    def exists(self, key: str) -> bool:
        assert self.files.has(source_key(key)) == (self.table.find_avatar(key) is not None)
        return self.files.has(source_key(key))


@pytest.fixture
def bench(files: FileStore, table: JobTable) -> Bench:
    return Bench(files, table)


async def test_add_clip_repeated_after_a_crash_returns_the_same(bench: Bench) -> None:
    form = bench.form("wave")
    _, row = await bench.clips.add(bench.own_id, form, None)
    again, same = await bench.clips.add(bench.own_id, form, None)
    assert same.key == row.key
    assert [(name, clip.kind, clip.key) for name, clip in again.clips.items()] == [("wave", "action", row.key)]
    assert (row.belongs_to, row.pinned, row.analyse_on_create) == (bench.key, False, True)
    with pytest.raises(StateError, match="has a clip 'wave' already"):
        await bench.clips.add(bench.own_id, bench.form("wave", b"another film"), None)
    with pytest.raises(NotFoundError):
        await bench.clips.add(bench.own_id, bench.form("nod"), "somebody else")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"duration_seconds": 0.5}, "expected 1 to 60 seconds, found 0.5"),
        ({"duration_seconds": 61.0}, "found 61.0"),
        ({"is_still": True}, "found a still picture"),
    ],
)
async def test_add_clip_that_does_not_fit_is_refused(bench: Bench, change: dict[str, Any], message: str) -> None:
    bench.stages.info = replace(VIDEO, **change)
    with pytest.raises(OptionError, match=message):
        await bench.add("wave")
    assert bench.own.clips == {}


async def test_add_clip_to_a_still_or_a_17th_is_refused(bench: Bench) -> None:
    for number in range(16):
        await bench.add(f"clip-{number}")
    with pytest.raises(StateError, match="has 16 clips; the limit is 16"):
        await bench.add("one-more")
    bench.table.update_avatar(bench.key, clips={}, source_info=encode_source_info(STILL))
    with pytest.raises(OptionError, match="this one is a still picture"):
        await bench.add("wave")


async def test_ensure_of_clip_tracks_the_person_of_the_avatar(bench: Bench) -> None:
    key = await bench.add("wave")
    await bench.avatars.ensure(key, None, ignore_progress)
    assert bench.stages.choices[-1] == PERSON
    assert (bench.row(key).status, bench.own.status) == (AvatarStatus.READY, AvatarStatus.READY)
    assert not any(name.startswith("analyse") for name in bench.stages.counts), "only composites are shown"


async def test_ensure_of_clip_that_does_not_fit_fails(bench: Bench) -> None:
    key = await bench.add("wave")
    bench.stages.strangers.add(source_key(key))
    with pytest.raises(FaceNotFoundError, match="does not show the person of the avatar"):
        await bench.avatars.ensure(key, None, ignore_progress)
    assert bench.row(key).status is AvatarStatus.FAILED
    assert list(parts_of(bench.table, bench.own)) == [OWN], "jobs leave it out"
    key, bench.stages.misfit = await bench.add("nod"), OptionError("Clip 'nod.mp4': the face is too large")
    with pytest.raises(OptionError, match="too large"):
        await bench.avatars.ensure(key, None, ignore_progress)
    assert bench.row(key).status is AvatarStatus.FAILED


async def test_ensure_of_composite_composes_it_once(bench: Bench) -> None:
    bench.stages.refusal = OptionError("Clip 'wave': too dark")
    with pytest.raises(OptionError, match="too dark"):
        await bench.composite()
    (composite,) = (row for row in bench.table.avatars_belonging_to(bench.key).values() if row.parts)
    assert composite.error is not None and composite.error.message == "Clip 'wave': too dark"
    bench.stages.refusal = None
    key = composite.key
    await bench.avatars.ensure(key, "warp", ignore_progress)
    clip = bench.own.clips["wave"].key
    assert bench.stages.composed == [[(OWN, None, source_key(bench.key)), ("wave", "action", source_key(clip))]]
    assert await bench.avatars.graph(key) == GRAPH
    assert bench.stages.cuts == GRAPH.cuts == [100], "there the track does not continue"
    assert (await bench.avatars.source(key)).key == source_key(bench.key), "what was sent"
    own = AudioPart(source_key(bench.key), stop=VIDEO.duration_seconds)  # sound after it belongs to no frame
    assert bench.stages.heard == [(own, own_speech_key(key))]
    assert [speech and speech.key for speech in bench.stages.source_speech] == [own_speech_key(key)]
    await bench.avatars.ensure(key, "warp", ignore_progress)
    assert len(bench.stages.composed) == 1
    on_disk(bench.files, source_key(key)).unlink()
    assert not await bench.avatars.is_intact(key, "warp")
    await bench.avatars.ensure(key, "warp", ignore_progress)
    assert len(bench.stages.composed) == 2, "its source was lost"


async def test_ensure_of_composite_leaves_out_a_failed_clip(bench: Bench) -> None:
    wave, nod = await bench.add("wave"), await bench.add("nod")
    bench.stages.strangers.add(source_key(nod))
    key = store_composite(bench.table, bench.own, parts_of(bench.table, bench.own))
    await bench.avatars.ensure(key, "warp", ignore_progress)
    assert [name for name, *_ in bench.stages.composed[0]] == [OWN, "wave"]
    assert bench.row(wave).status is AvatarStatus.READY


async def test_composite_ahead_waits_for_all_clips(bench: Bench) -> None:
    first, second = await bench.add("wave"), await bench.add("nod")
    assert await bench.avatars.composite_of(bench.key) == bench.key
    await bench.avatars.ensure(first, None, ignore_progress)
    assert await bench.avatars.composite_of(bench.key, is_ahead=True) == bench.key
    await bench.avatars.ensure(second, None, ignore_progress)
    made = await bench.avatars.composite_of(bench.key, is_ahead=True)
    assert made == composite_key(parts_of(bench.table, bench.own))
    assert bench.row(made).analyse_on_create, "another service continues it"


async def test_sweep_keeps_parts_of_composites_that_jobs_need(bench: Bench) -> None:
    key = await bench.composite()
    clip = bench.own.clips["wave"].key
    await bench.avatars._evict(0)
    assert bench.exists(clip) and not bench.exists(key), "clips stay with their avatar; composites are a cache"
    store_composite(bench.table, bench.own, parts_of(bench.table, bench.own))
    job = bench.table.insert_job(job_record(JobOptions(engine="warp"), avatar_key=key))
    await bench.clips.delete(bench.own_id, "wave", None)
    await bench.avatars.sweep()
    await bench.avatars.ensure(key, "warp", ignore_progress)
    assert bench.exists(clip) and bench.exists(key)
    bench.table.update_job(job.id, status="cancelled")
    await bench.avatars.sweep()
    assert not bench.exists(clip) and not bench.exists(key)


@pytest.mark.parametrize("is_shown", [False, True])
async def test_sweep_after_the_avatar_is_deleted_removes_its_clips(bench: Bench, is_shown: bool) -> None:
    key = await bench.composite()
    clip = bench.own.clips["wave"].key
    if is_shown:
        await bench.avatars.pin(bench.key)
    bench.table.delete_avatar(bench.key)
    await bench.avatars.sweep()
    assert [bench.exists(each) for each in (clip, key)] == [is_shown, is_shown]


async def test_delete_clip_that_is_unknown_fails(bench: Bench) -> None:
    await bench.add("wave")
    for name, owner in (("nod", None), ("wave", "somebody else")):
        with pytest.raises(NotFoundError):
            await bench.clips.delete(bench.own_id, name, owner)
    assert list(bench.own.clips) == ["wave"]
