"""The avatars: each source is analysed once, however many jobs need it at the same time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from lipwright.config import PipelineConfig
from lipwright.errors import (
    FaceNotFoundError,
    InputError,
    LipwrightError,
    NotFoundError,
    StorageFullError,
    StoredFileError,
    UnavailableError,
)
from lipwright.jobs.messages import (
    PIN_S,
    AvatarRef,
    ClipPart,
    PeopleScan,
    PreparedSpeech,
    SourceVideo,
    decode_source_info,
    encode_source_info,
)
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.jobs.model.base import ErrorRecord, utc_now
from lipwright.jobs.ports import TRACK_CHUNK_FRAMES, Stages
from lipwright.jobs.retry import retry
from lipwright.jobs.single_flight import Progress, SingleFlight, ignore_progress
from lipwright.jobs.sources.clips import parts_of, store_composite
from lipwright.jobs.sources.mattes import Mattes
from lipwright.jobs.sources.people import People
from lipwright.media.audio_parts import AudioPart
from lipwright.media.probe import VideoInfo
from lipwright.storage.file_keys import avatar_folder, face_key, own_speech_key, source_key, track_key, tracks_folder
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.row_codec import AvatarInfo, AvatarRecord, AvatarStatus
from lipwright.telemetry.log_context import CallContext
from models.avatar.folder import AVATAR_FILES, is_tracked
from models.clips.graph import OWN, ClipGraph
from models.face.choice import FaceChoice, is_reference, reference_sha256
from models.track.tracker import TrackState

logger = logging.getLogger(__name__)

_OTHER_PERSON: Final = (
    "The clip does not show the person of the avatar. Send a clip of the same person, with the face to the camera."
)


class _AnalysisKey(NamedTuple):
    """Identifies an analysis: an avatar for an engine; without an engine, it is only tracked."""

    key: str
    engine: str | None


class Avatars:
    """Analyses sources and bounds the cache of analysed avatars.

    Attributes:
        people: The people in their sources.
        mattes: The mattes of their sources.
        folder_lock: Held while the row of an avatar and its files are made or removed together.
    """

    def __init__(self, config: PipelineConfig, stages: Stages, table: JobTable, files: FileStore) -> None:
        """Prepare; analyses start on demand."""
        self._config, self._stages, self._table, self._files = config, stages, table, files
        self._analyses: SingleFlight[_AnalysisKey, None] = SingleFlight()
        self._composing: SingleFlight[str, None] = SingleFlight()
        self._tracking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # of avatars that are tracked
        self._pinned: dict[str, float] = {}  # until when, by the monotonic clock
        self.people = People(config, stages, table, files)
        self.mattes = Mattes(config, stages, files)
        self.folder_lock = asyncio.Lock()

    async def ensure(self, key: str, engine: str | None, on_progress: Progress, *, verify: bool = False) -> AvatarRef:
        """Return avatar `key`, analysed for `engine`; analyse it first if nobody else is doing so.

        Without an engine, it is only tracked. The source of a composite is made first.

        Callers share an analysis: it runs while anybody waits for it and is cancelled with its last waiter. All engines
        share one track. With `verify`, a replica checks the engine's files now. Otherwise the row is trusted, and
        planning the first block fails with StoredFileError where they are gone or damaged.

        Raises:
            FaceNotFoundError: The source holds no face of that choice.
            LipwrightError: Whatever else ended the analysis.
        """
        await self._table.run_in_thread(self._table.touch_avatar, key)
        if not await self._is_composed(key):
            await self._composing.run(key, lambda report: self._finish(key, lambda: self._compose(key)))
        avatar = await self._find(key)
        if await self._is_ready(key, engine, avatar, verify):
            return avatar
        wanted = _AnalysisKey(key, engine)
        await self._analyses.run(wanted, lambda report: self._analyse(wanted, avatar, report), on_progress)
        return avatar

    async def pin(self, key: str) -> None:
        """Protect avatar `key`, its clips and composites from eviction for another `PIN_S`: it is shown live."""
        now = time.monotonic()
        self._pinned = {pinned: until for pinned, until in self._pinned.items() if until > now} | {key: now + PIN_S}
        await self._table.run_in_thread(self._table.touch_avatar, key)

    async def settings(self, key: str) -> AvatarSettings:
        """Return the current settings of avatar `key`; NotFoundError if it was deleted."""
        if (record := await self._table.run_in_thread(self._table.find_avatar, key)) is None:
            raise NotFoundError("The avatar was deleted. Create it again with POST /v1/avatars.")
        return record.settings

    async def is_intact(self, key: str, engine: str) -> bool:
        """Return whether track and engine files of avatar `key` are intact; StoredFileError if its source is gone."""
        return await self._is_composed(key) and await self._is_ready(key, engine, await self._find(key), verify=True)

    async def graph(self, key: str) -> ClipGraph | None:
        """Return what a composite holds; None for an avatar that is none, or is not made."""
        record = await self._table.run_in_thread(self._table.find_avatar, key)
        return None if record is None or record.graph is None else ClipGraph.from_json(record.graph)

    async def composite_of(self, key: str, *, is_ahead: bool = False) -> str:
        """Return the key of the composite with all ready clips of an avatar, or that of the avatar without any.

        Args:
            key: The avatar.
            is_ahead: It is made before anybody needs it, and no other clip of the avatar may be analysed then.
        """

        def store() -> str:
            avatar = self._table.find_avatar(key)
            parts = {} if avatar is None else parts_of(self._table, avatar, ready_only=True)
            if avatar is None or len(parts) == 1 or (is_ahead and parts != parts_of(self._table, avatar)):
                return key
            return store_composite(self._table, avatar, parts, analyse_on_create=is_ahead)

        return await self._table.run_in_thread(store)

    async def _is_composed(self, key: str) -> bool:
        """Return whether an avatar is no composite, or one whose source is made."""
        record = await self._table.run_in_thread(self._table.find_avatar, key)
        if record is None or not record.parts:
            return True
        return record.graph is not None and await asyncio.to_thread(self._files.has, source_key(key))

    async def _compose(self, key: str) -> None:
        """Make the source of a composite from its parts, which are tracked first. Clips that fail are left out."""
        record, parts = await self._update(key, status=AvatarStatus.ANALYSING, error=None), []
        for name, part in record.parts.items():
            try:
                avatar = await self.ensure(part.key, None, ignore_progress)
            except InputError as error:
                if name == OWN:
                    raise
                logger.warning("composite %s is made without clip %r: %s", key, name, error)
                continue
            parts.append(ClipPart(name, part.kind, avatar))
        self._files.stored.make_folder(avatar_folder(key))
        made = await self._stages.compose(CallContext(key), parts, source_key(key))
        info = encode_source_info(made.info)
        await self._update(key, graph=made.graph.to_json(), source_info=info, source_sha256=made.sha256)

    async def _find(self, key: str) -> AvatarRef:
        source = source_key(key)
        record = await self._table.run_in_thread(self._table.find_avatar, key)
        info = None if record is None else decode_source_info(record.source_info)
        if info is None:
            info = await self._probe(key, source)
            if record is not None:
                await self._update(key, source_info=encode_source_info(info))
        elif not await asyncio.to_thread(self._files.has, source):
            raise StoredFileError(f"The source of avatar {key} is gone from the stored files.")
        return AvatarRef(avatar_folder(key), SourceVideo(source, info))

    async def _probe(self, key: str, source: str) -> VideoInfo:
        """Probe the source of a row that an older version wrote."""
        try:
            probed = await self._stages.probe(CallContext(key), source, None)
        except InputError as error:  # it could be opened when it was accepted
            raise await self.explain_input_error(key, error) from error
        assert probed.video is not None
        return probed.video

    async def _is_ready(self, key: str, engine: str | None, avatar: AvatarRef, verify: bool) -> bool:
        record = await self._table.run_in_thread(self._table.find_avatar, key)
        if record is None or not await self._is_tracked(record, avatar):
            return False
        if engine is None or (not verify and engine in record.analysed_for):
            return True
        is_analysed = await self._stages.is_analysed(CallContext(key), engine, avatar)
        await self._table.run_in_thread(self._record_analysis, key, engine, is_analysed)
        return is_analysed

    def _record_analysis(self, key: str, engine: str, is_analysed: bool) -> None:
        """Note in the row whether an engine has analysed the avatar."""
        record = self._table.find_avatar(key)
        if record is None or (engine in record.analysed_for) == is_analysed:
            return
        others = {name: time for name, time in record.analysed_for.items() if name != engine}
        analysed_for = others | ({engine: utc_now().isoformat()} if is_analysed else {})
        self._table.update_avatar(key, analysed_for=analysed_for)

    async def _is_tracked(self, record: AvatarRecord, avatar: AvatarRef) -> bool:
        return record.status is AvatarStatus.READY and await asyncio.to_thread(self._is_whole, avatar)

    def _is_whole(self, avatar: AvatarRef) -> bool:
        with self._files.stored.fetched_folder(avatar.folder, AVATAR_FILES) as folder:
            return is_tracked(folder)

    async def _analyse(self, wanted: _AnalysisKey, avatar: AvatarRef, report: Progress) -> None:
        await self._finish(wanted.key, lambda: self._make(wanted, avatar, report))
        await self.try_sweep()

    async def _finish(self, key: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do a part of the analysis of an avatar, with retries; record the error that ends it."""
        try:
            await retry(work, self._config.jobs)
        except UnavailableError:
            raise  # an outage says nothing about the source
        except LipwrightError as error:
            cause = await self.explain_input_error(key, error)
            await asyncio.to_thread(self._files.delete_tracks, key)  # frees space for the row on a full disk
            await self.record_failure(key, cause)
            raise cause from error

    async def record_failure(self, key: str, error: LipwrightError) -> None:
        """Record the error that ended the analysis of avatar `key`, for callers that wait for it."""
        await self._update(key, status=AvatarStatus.FAILED, error=ErrorRecord.of(error))

    async def explain_input_error(self, key: str, error: LipwrightError) -> LipwrightError:
        """Return the error, or a StoredFileError if the stored source or reference picture was lost or damaged."""
        record = await self._table.run_in_thread(self._table.find_avatar, key)
        if record is None or (record.parts and record.graph is None):
            return error
        kept = [(source_key(key), record.source_sha256)]
        if (sha256 := reference_sha256(record.face)) is not None:
            kept.append((face_key(key), sha256))
        for file, sha256 in kept:
            error = await asyncio.to_thread(self._files.explain_input_error, error, file, sha256)
        if record.parts and isinstance(error, StoredFileError):
            await self._update(key, graph=None)  # the next caller has it made again
        return error

    async def _make(self, wanted: _AnalysisKey, avatar: AvatarRef, report: Progress) -> None:
        """Track the source if that is missing, then analyse it for the engine."""
        key, context = wanted.key, CallContext(wanted.key)
        async with self._tracking.setdefault(key, asyncio.Lock()):
            record = await self.record(key)
            if not await self._is_tracked(record, avatar):
                record = await self._update(key, status=AvatarStatus.ANALYSING, error=None)
                if record.belongs_to is not None:
                    await self.ensure(record.belongs_to, None, ignore_progress)  # its errors are not those of the clip
                try:
                    talks = await self._track(record, avatar, report)
                    await self._check_clip(record, avatar)
                except FaceNotFoundError as error:
                    if record.belongs_to is None:
                        raise
                    raise FaceNotFoundError(_OTHER_PERSON) from error
                await self._update(key, status=AvatarStatus.READY, info=_facts(avatar.source.info, talks))
        if wanted.engine is None:
            return
        if not await self._stages.is_analysed(context, wanted.engine, avatar):
            await self._stages.analyse(context, wanted.engine, avatar, await self._own_speech(key))
        await self._table.run_in_thread(self._record_analysis, key, wanted.engine, True)

    async def _check_clip(self, record: AvatarRecord, avatar: AvatarRef) -> None:
        """Refuse a tracked clip that does not belong to its avatar; other avatars and composites pass."""
        if record.belongs_to is not None and not record.parts:
            own = await self.ensure(record.belongs_to, None, ignore_progress)
            clip = ClipPart(record.label or record.id, None, avatar)
            await self._stages.check_fit(CallContext(record.key), clip, own)

    async def _update(self, key: str, **fields: object) -> AvatarRecord:
        return await self._table.run_in_thread(self._table.update_avatar, key, **fields)

    async def _own_speech(self, key: str) -> PreparedSpeech | None:
        """Return the speech in the source; a composite, which begins with the avatar's own video, has that of it."""
        source = await self.source(key)
        if not source.info.has_audio:
            return None
        seconds = source.info.duration_seconds
        part = AudioPart(source.key, stop=None if source.key == source_key(key) else seconds)
        return await self._stages.prepare_speech(CallContext(key), [part], own_speech_key(key), seconds)

    async def _track(self, record: AvatarRecord, avatar: AvatarRef, report: Progress) -> bool:
        """Track the face through the source and build the avatar; returns whether it talks."""
        context, source = CallContext(record.key), avatar.source
        choice = await self._choice(record, source)
        self._files.stored.make_folder(tracks_folder(record.key))
        num_frames, step = source.info.num_frames, TRACK_CHUNK_FRAMES
        tracks: list[str] = []
        state: TrackState | None = None
        for start in range(0, num_frames, step):
            stop = min(start + step, num_frames)
            tracks.append(track_key(record.key, start))
            state = await self._stages.track(context, source, choice, start, stop, state, tracks[-1])
            await report(0.9 * stop / num_frames)
        graph = await self.graph(record.key)
        talks = await self._stages.build_avatar(context, avatar, tracks, [] if graph is None else graph.cuts)
        await asyncio.to_thread(self._files.delete_tracks, record.key)
        return talks

    async def _choice(self, record: AvatarRecord, source: SourceVideo) -> FaceChoice:
        if record.belongs_to is not None:
            own = await self.ensure(record.belongs_to, None, ignore_progress)
            return await self._stages.appearance(CallContext(record.key), own)
        if is_reference(record.face):
            return await self._stages.reference(CallContext(record.key), face_key(record.key))
        return await self.people.choice(record, source, FaceChoice.of_record(record.face))

    async def source(self, key: str) -> SourceVideo:
        """Return the source of avatar `key`, or of the avatar of a composite; StoredFileError if it is gone."""
        record = await self._table.run_in_thread(self._table.find_avatar, key)
        own = record.belongs_to if record is not None and record.parts else None
        return (await self._find(own or key)).source

    async def record(self, key: str) -> AvatarRecord:
        """Return the row of an avatar that a job needs, which is therefore kept."""
        record = await self._table.run_in_thread(self._table.find_avatar, key)
        assert record is not None, "an avatar is kept while a job needs it"
        return record

    async def poll_people(self, record: AvatarRecord) -> PeopleScan:
        """Return the people in the source of an avatar; see `People.poll`."""
        await self._table.run_in_thread(self._table.touch_avatar, record.key)
        avatar = await self._find(record.key)
        return await self.people.poll(record, avatar.source)

    async def sweep(self) -> None:
        """Evict cached avatars beyond the limit, the least recently used first."""
        await self._evict(self._config.jobs.max_cached_avatars)

    async def try_sweep(self) -> None:
        """Sweep after other work, which succeeds even if this fails: the next periodic sweep repeats it."""
        with suppress(OSError, LipwrightError):
            await self.sweep()

    async def evict_oldest(self) -> bool:
        """Evict the least recently used cached avatar to free disk space; returns False if all are needed."""
        return await self._evict(0, max_evicted=1) > 0

    async def _evict(self, num_kept: int, max_evicted: int | None = None) -> int:
        """Evict cached avatars that nothing needs, except the `num_kept` last used; returns how many it evicted."""
        table, num_evicted = self._table, 0
        async with self.folder_lock:
            for record in reversed(await table.run_in_thread(table.surplus_avatars, num_kept)):
                if num_evicted == max_evicted:
                    break
                if (
                    self.people.is_searching(record)
                    or self._is_being_made(record.key)
                    or self._pinned.get(record.belongs_to or record.key, 0.0) > time.monotonic()
                ):
                    continue
                with suppress(StorageFullError):  # removing the files makes room for the change of the table
                    await table.run_in_thread(table.delete_avatar, record.key)
                await asyncio.to_thread(self._files.delete_avatar, record.key)
                await table.run_in_thread(table.delete_avatar, record.key)
                logger.info("avatar %s evicted from the cache", record.id)
                num_evicted += 1
        return num_evicted

    async def sweep_orphans(self, min_age_s: float) -> None:
        """Remove folders without an avatar, left by an interrupted submission or removal."""
        for key in await asyncio.to_thread(self._files.avatar_keys, min_age_s):
            async with self.folder_lock:
                record = await self._table.run_in_thread(self._table.find_avatar, key)
                if record is None and not self._is_being_made(key):
                    await asyncio.to_thread(self._files.delete_avatar, key)

    def _is_being_made(self, key: str) -> bool:
        """Return whether a composite, an analysis or a matte is made in the folder of an avatar."""
        is_analysed = any(wanted.key == key for wanted in self._analyses)
        return key in self._composing or is_analysed or self.mattes.is_making(avatar_folder(key))


def _facts(info: VideoInfo, talks: bool) -> AvatarInfo:
    return AvatarInfo(
        width=info.width,
        height=info.height,
        fps=str(info.fps),
        num_frames=info.num_frames,
        duration_seconds=info.duration_seconds,
        is_still=info.is_still,
        talks=talks,
    )
