"""The presenters (avatars): each source is analysed once, however many jobs ask for it at the same time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from config import PipelineConfig
from deployments.accidents import tried_again
from deployments.landmark_generator import SourceVideo
from deployments.log_context import Work
from deployments.stages import Stages
from errors import LipwrightError
from models.avatar import Avatar
from models.face_choice import FaceChoice, is_reference
from models.face_track import RawLandmarks, TrackState
from storage.file_store import FileStore
from storage.job_table import JobTable
from storage.records import AvatarInfo, AvatarRecord, AvatarStatus, ErrorRecord

logger = logging.getLogger("ray.serve")

Progress = Callable[[float], None]


class Presenters:
    """Analyses sources and keeps the cache of analysed ones bounded."""

    def __init__(self, config: PipelineConfig, stages: Stages, table: JobTable, files: FileStore) -> None:
        """Take up nothing by itself: an analysis starts when somebody asks for it."""
        self._config, self._stages, self._table, self._files = config, stages, table, files
        self._analyses: dict[str, asyncio.Task[None]] = {}
        self._waiters: dict[str, int] = {}
        self._progress: dict[str, list[Progress]] = {}

    async def ensure(self, key: str, on_progress: Progress) -> SourceVideo:
        """Return the analysed source of avatar `key`, analysing it first if nobody has.

        The analysis is shared: it goes on while anybody waits for it and is cancelled with its last waiter.

        Raises:
            FaceNotFoundError: The source holds no face of that choice.
            LipwrightError: Whatever else ended the analysis.
        """
        self._table.touch_avatar(key)
        source = await self._source(key)
        record = self._table.find_avatar(key)
        is_ready = record is not None and record.status is AvatarStatus.READY
        if is_ready and Avatar.is_complete(self._files.avatar_dir(key)):
            return source
        if key not in self._analyses:
            self._analyses[key] = asyncio.create_task(self._analyse(key, source))
        task = self._analyses[key]
        self._waiters[key] = self._waiters.get(key, 0) + 1
        self._progress.setdefault(key, []).append(on_progress)
        try:
            await asyncio.shield(task)
        finally:
            self._progress[key].remove(on_progress)
            self._waiters[key] -= 1
            if self._waiters[key] == 0:
                task.cancel()
                for store in (self._analyses, self._waiters, self._progress):
                    store.pop(key, None)
        return source

    async def _source(self, key: str) -> SourceVideo:
        path = self._files.avatar_source_path(key)
        probed = await self._stages.probe(Work(key), path, None)
        assert probed.video is not None
        return SourceVideo(path, probed.video)

    async def _analyse(self, key: str, source: SourceVideo) -> None:
        record = self._table.update_avatar(key, status=AvatarStatus.ANALYSING, error=None)
        try:
            talks = await tried_again(lambda: self._build(record, source), self._config.jobs.max_attempts)
        except LipwrightError as error:
            self._table.update_avatar(key, status=AvatarStatus.FAILED, error=ErrorRecord.of(error))
            raise
        info = source.info
        self._table.update_avatar(
            key,
            status=AvatarStatus.READY,
            info=AvatarInfo(
                width=info.width,
                height=info.height,
                fps=str(info.fps),
                num_frames=info.num_frames,
                duration_seconds=info.duration_seconds,
                is_still=info.is_still,
                talks=talks,
            ),
        )
        self.sweep()

    async def _build(self, record: AvatarRecord, source: SourceVideo) -> bool:
        work = Work(record.key)
        choice = await self._choice(record)
        num_frames, step = source.info.num_frames, self._config.render.track_chunk_frames
        chunks: list[RawLandmarks] = []
        state: TrackState | None = None
        for start in range(0, num_frames, step):
            stop = min(start + step, num_frames)
            raw, state = await self._stages.track(work, source, choice, start, stop, state)
            chunks.append(raw)
            for report in list(self._progress.get(record.key, ())):
                report(0.9 * stop / num_frames)
        avatar_dir = self._files.avatar_dir(record.key)
        own_sound = None
        if source.info.has_audio:
            speech = avatar_dir / "speech.npy"
            prepared = await self._stages.prepare_speech(work, source.path, speech, source.info.duration_seconds)
            own_sound = (speech, prepared)
        return await self._stages.build_avatar(work, source, chunks, own_sound, avatar_dir)

    async def _choice(self, record: AvatarRecord) -> FaceChoice:
        if is_reference(record.face):
            return await self._stages.reference(Work(record.key), self._files.avatar_face_path(record.key))
        return FaceChoice.parse(record.face)

    def sweep(self) -> None:
        """Forget cached presenters beyond the bound, the least recently used first."""
        for record in self._table.surplus_avatars(self._config.jobs.max_cached_avatars):
            if record.key in self._analyses:
                continue
            self._table.delete_avatar(record.key)
            self._files.delete_avatar(record.key)
            logger.info("presenter %s dropped from the cache", record.id)

    def sweep_orphans(self, min_age_s: float) -> None:
        """Remove folders that belong to no presenter: of an intake or a removal that was interrupted."""
        for key in self._files.avatar_keys(min_age_s):
            if key not in self._analyses and self._table.find_avatar(key) is None:
                self._files.delete_avatar(key)
