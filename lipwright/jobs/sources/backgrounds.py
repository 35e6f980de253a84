"""Stored backgrounds: checked when they are uploaded, and fitted once to each size and rate of live sessions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from lipwright.config import PipelineConfig
from lipwright.errors import StateError, StoredFileError
from lipwright.jobs.messages import SourceVideo, decode_source_info, encode_source_info
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.jobs.model.base import UploadedFile
from lipwright.jobs.ports import Stages
from lipwright.jobs.retry import retry
from lipwright.jobs.single_flight import Progress, SingleFlight
from lipwright.jobs.sources.client_names import client_names
from lipwright.media.output.backgrounds import FIT_VERSION, check_length, fitted_info
from lipwright.media.playback import AfterEnd
from lipwright.media.probe import VideoInfo
from lipwright.storage.backgrounds import BackgroundRecord, BackgroundStore
from lipwright.storage.file_keys import (
    FITTED_REPORT,
    FITTED_VIDEO,
    background_folder,
    background_id,
    background_source_key,
    fitted_part,
)
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.telemetry.log_context import CallContext

_MIN_UNUSED_S: Final = 3600.0
"""Backgrounds of running sessions stay, however short the retention time is."""
_MAX_NAMED: Final = 5


class _Wanted(NamedTuple):
    """A background in the form in which the sessions of an avatar show it."""

    source: SourceVideo
    shown: VideoInfo
    after_end: AfterEnd
    folder: str

    @property
    def video(self) -> str:
        """The key of its file."""
        return f"{self.folder}/{FITTED_VIDEO}"

    @property
    def report(self) -> str:
        """The key of what is known of that file."""
        return f"{self.folder}/{FITTED_REPORT}"


class Backgrounds:
    """Keeps backgrounds while an avatar uses them, and for the retention time of jobs after their last use."""

    def __init__(self, config: PipelineConfig, stages: Stages, table: JobTable, files: FileStore) -> None:
        """Prepare; backgrounds are fitted on demand."""
        self._config, self._stages, self._table, self._files = config, stages, table, files
        self._store = BackgroundStore(files)
        self._lock = asyncio.Lock()  # so that none is removed while it is found
        self._fitting: SingleFlight[_Wanted, None] = SingleFlight()

    async def create(self, file: UploadedFile, owner: str | None) -> BackgroundRecord:
        """Check and store a background. Repeating the call after a crash in the middle of it is safe.

        Raises:
            MediaError: It is neither a picture nor a video that can be decoded.
            MediaLimitError: It is too large or too long.
        """
        key = background_source_key(background_id(owner, file.sha256))
        kept = await asyncio.to_thread(self._files.find_upload, file.key, key)
        with client_names(file):
            info = (await self._stages.probe(CallContext(file.key), kept, None)).video
        assert info is not None
        check_length(info, self._config.live.max_background_seconds)
        async with self._lock:
            record = await asyncio.to_thread(self._store.add, owner, file, encode_source_info(info))
        await asyncio.to_thread(self._files.drop_uploads, file)
        return record

    async def stored(self, settings: AvatarSettings, file: UploadedFile | None, owner: str | None) -> AvatarSettings:
        """Return the settings with the file that was sent with them, if any, as a stored background; see `create`."""
        if file is None:
            return settings
        record = await self.create(file, owner)
        return settings.model_copy(update={"background_id": record.id})

    @asynccontextmanager
    async def held(self, file_id: str | None, owner: str | None) -> AsyncIterator[BackgroundRecord | None]:
        """Yield the background with this ID, if any; it cannot be removed until the block ends.

        Raises:
            NotFoundError: The owner has no such background.
        """
        if file_id is None:
            yield None
            return
        async with self._lock:
            yield await asyncio.to_thread(self._store.use, file_id, owner)

    async def ensure(
        self, file_id: str, owner: str | None, shown: VideoInfo, after_end: AfterEnd, on_progress: Progress
    ) -> SourceVideo:
        """Return a background in the size, rate and colours of an avatar's source; make that first if it is missing.

        Raises:
            NotFoundError: The owner has no such background.
            LipwrightError: What ended the work.
        """
        async with self.held(file_id, owner) as record:
            assert record is not None
        own = decode_source_info(record.info)
        source_key = background_source_key(record.id)
        if own is None:  # an older version wrote it
            own = (await self._stages.probe(CallContext(record.id), source_key, None)).video
            assert own is not None
        info = fitted_info(own, shown, after_end)
        part = fitted_part(f"{FIT_VERSION} {after_end} {info}")
        folder = f"{background_folder(record.id)}/{part}".rstrip("/")
        wanted = _Wanted(SourceVideo(source_key, own), shown, after_end, folder)
        if not await asyncio.to_thread(self._is_fitted, wanted):
            await self._fitting.run(wanted, lambda report: self._fit(wanted), on_progress)
        return SourceVideo(wanted.video, info)

    async def delete(self, file_id: str, owner: str | None) -> None:
        """Remove a background.

        Raises:
            NotFoundError: The owner has no such background.
            StateError: An avatar uses it.
        """
        async with self.held(file_id, owner):
            if users := (await self._table.run_in_thread(self._table.backgrounds_of_avatars)).get(file_id):
                raise StateError(
                    f"Background {file_id} is used by {len(users)} avatar(s): {', '.join(users[:_MAX_NAMED])}. "
                    "First give them another background with PATCH /v1/avatars/ID, or delete them."
                )
            await asyncio.to_thread(self._store.delete, file_id, owner)

    async def sweep(self) -> None:
        """Remove backgrounds that no avatar uses and that were not used for a long time."""
        min_age_s = max(self._config.jobs.retention_s, self._config.live.max_session_s + _MIN_UNUSED_S)
        async with self._lock:
            kept = await self._table.run_in_thread(self._table.backgrounds_of_avatars)
            await asyncio.to_thread(self._store.sweep, min_age_s, kept)

    def _is_fitted(self, wanted: _Wanted) -> bool:
        try:
            with self._files.stored.fetched(wanted.report) as path:
                sha256 = str(json.loads(path.read_bytes())["sha256"])
        except (StoredFileError, ValueError, KeyError):
            return False
        return bool(self._files.stored.intact({wanted.video: sha256}))

    async def _fit(self, wanted: _Wanted) -> None:
        self._files.stored.make_folder(wanted.folder)
        context = CallContext(wanted.source.key)

        async def fit() -> None:
            sha256 = await self._stages.fit_background(
                context, wanted.source, wanted.shown, wanted.after_end, wanted.video
            )
            report = json.dumps({"sha256": sha256}).encode()
            await asyncio.to_thread(self._files.stored.put, wanted.report, report)

        await retry(fit, self._config.jobs)
