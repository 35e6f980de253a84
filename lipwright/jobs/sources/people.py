"""The people in a source: it is searched once, however many avatars and callers ask for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from lipwright.config import PipelineConfig
from lipwright.errors import StoredFileError
from lipwright.jobs.messages import PeopleScan, SourceVideo
from lipwright.jobs.ports import TRACK_CHUNK_FRAMES, Stages
from lipwright.jobs.retry import retry
from lipwright.jobs.single_flight import Progress, SingleFlight, ignore_progress
from lipwright.jobs.usage import counted_compute
from lipwright.media.array_files import load_arrays
from lipwright.media.audio_parts import AudioPart
from lipwright.storage.file_keys import (
    PEOPLE_PART,
    avatar_folder,
    own_speech_key,
    people_identities_key,
    people_report_key,
    person_picture_key,
    scan_folder,
    scan_key,
    source_mouth_key,
)
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.row_codec import AvatarRecord
from lipwright.telemetry.log_context import CallContext
from models.engines.protocol import SOURCE_AUDIO_FPS, FrameSpan
from models.face.choice import FaceChoice
from models.people.casting import resolve
from models.people.report import PEOPLE_VERSION, PeopleReport
from models.people.scan import ScanState

_POLL_S = 2.0  # how long `poll` waits for a search that is about to end
_KEPT_S = 600.0  # how long the end of a search waits for the next poll; the people stay stored


class _Source(NamedTuple):
    """Identifies a source of one owner."""

    sha256: str
    owner: str | None


def _name(record: AvatarRecord) -> _Source:
    return _Source(record.source_sha256, record.owner)


@dataclass
class _Poll:
    """A search that goes on between the polls for it, or has ended in the last `_KEPT_S` without another poll."""

    share: float = 0.0  # of the search that is done, 0 to 1
    task: asyncio.Task[str] = field(init=False)  # returns the key of an avatar whose folder has the result

    async def report(self, share: float) -> None:
        self.share = share


class People:
    """Finds the people in sources. The result is kept in the folders of the avatars that ask for it."""

    def __init__(self, config: PipelineConfig, stages: Stages, table: JobTable, files: FileStore) -> None:
        """Prepare; searches start on demand."""
        self._config, self._stages, self._table, self._files = config, stages, table, files
        self._searches: SingleFlight[_Source, str] = SingleFlight()
        self._polls: dict[_Source, _Poll] = {}
        self._running = asyncio.Semaphore(config.jobs.max_running_jobs)

    async def poll(self, record: AvatarRecord, source: SourceVideo) -> PeopleScan:
        """Return the people in an avatar's source if they are known; otherwise search for them in the background.

        Raises:
            LipwrightError: The last search failed with this error; the next call starts another one.
        """
        name = _name(record)
        poll = self._polls.get(name)
        if poll is None:
            poll = self._polls[name] = _Poll()
            poll.task = asyncio.create_task(self._search(record, source, poll.report))
            loop = asyncio.get_running_loop()
            poll.task.add_done_callback(lambda _: loop.call_later(_KEPT_S, self._forget, name, poll))
        await asyncio.wait([poll.task], timeout=_POLL_S)
        if not poll.task.done():
            return PeopleScan(poll.share, None)
        self._forget(name, poll)
        return PeopleScan(1.0, await self._report(await self._share(record, await poll.task)))

    async def find(self, record: AvatarRecord, source: SourceVideo) -> PeopleReport:
        """Return the people in an avatar's source; wait for the search, which ends with the last caller that waits.

        Raises:
            LipwrightError: The search failed.
        """
        return await self._report(await self._found(record, source))

    async def known(self, sha256: str, owner: str | None) -> PeopleReport | None:
        """Return the people in a source; None if they are not known."""
        avatars = await self._table.run_in_thread(self._table.avatars_of, sha256, owner)
        reports = (await asyncio.to_thread(self._read, avatar.key) for avatar in avatars)
        return await anext((report async for report in reports if report is not None), None)

    async def choice(self, record: AvatarRecord, source: SourceVideo, choice: FaceChoice) -> FaceChoice:
        """Return a choice that the tracker can follow for `person` and `speaking`; others are returned unchanged.

        `speaking` is `largest` where nobody who is seen speaks.

        Raises:
            FaceNotFoundError: There is no person of that number.
            LipwrightError: The search failed.
        """
        if choice.kind not in ("person", "speaking"):
            return choice
        key = await self._found(record, source)
        report = await self._report(key)
        number = report.main_speaker() if choice.kind == "speaking" else resolve(choice, report, ())
        return FaceChoice() if number is None else await asyncio.to_thread(self._identity, key, number)

    async def resolve(self, sha256: str, owner: str | None, choice: FaceChoice) -> int | None:
        """Return the person whom a choice selects in a source; None if that is not known, or nobody whom it shows.

        Raises:
            FaceNotFoundError: There is no person of that number.
        """
        avatars = await self._table.run_in_thread(self._table.avatars_of, sha256, owner)
        return await asyncio.to_thread(self._resolve, [avatar.key for avatar in avatars], choice)

    def stop(self) -> None:
        """Cancel the searches that were polled, because another service leads. Others end with the jobs that wait."""
        for poll in self._polls.values():
            poll.task.cancel()
        self._polls.clear()

    def is_searching(self, record: AvatarRecord) -> bool:
        """Return whether the source of an avatar is being searched."""
        return _name(record) in self._searches

    def _forget(self, name: _Source, poll: _Poll) -> None:
        if self._polls.get(name) is poll:
            del self._polls[name]

    async def _found(self, record: AvatarRecord, source: SourceVideo) -> str:
        return await self._share(record, await self._search(record, source, ignore_progress))

    async def _share(self, record: AvatarRecord, key: str) -> str:
        """Return the key of this avatar once its folder has the result that is in the folder of the avatar `key`."""
        if key != record.key and not await asyncio.to_thread(self._is_known, record.key):
            await asyncio.to_thread(self._copy, key, record.key)
        return record.key

    async def _search(self, record: AvatarRecord, source: SourceVideo, on_progress: Progress) -> str:
        return await self._searches.run(_name(record), partial(self._find, record, source), on_progress)

    async def _find(self, record: AvatarRecord, source: SourceVideo, progress: Progress) -> str:
        """Return the key of an avatar of this source whose folder has the people; find them first if none has."""
        avatars = await self._table.run_in_thread(self._table.avatars_of, record.source_sha256, record.owner)
        for key in (record.key, *(avatar.key for avatar in avatars)):
            if await asyncio.to_thread(self._is_known, key):
                return key
        async with self._running, counted_compute(self._table, record.owner):
            await retry(lambda: self._make(record.key, source, progress), self._config.jobs)
        return record.key

    async def _make(self, key: str, source: SourceVideo, progress: Progress) -> None:
        context, num_frames, step = CallContext(key), source.info.num_frames, TRACK_CHUNK_FRAMES
        self._files.stored.make_folder(scan_folder(key))
        scans: list[str] = []
        state: ScanState | None = None
        for start in range(0, num_frames, step):
            stop = min(start + step, num_frames)
            scans.append(scan_key(key, start))
            state = await self._stages.scan_people(context, source, start, stop, state, scans[-1])
            await progress(0.9 * stop / num_frames)
        mouths = await self._hear(key, source) if source.info.has_audio else []
        await self._stages.find_people(context, avatar_folder(key), source, scans, mouths)
        await asyncio.to_thread(self._files.stored.remove_folder, scan_folder(key))

    async def _hear(self, key: str, source: SourceVideo) -> list[str]:
        """Predict the mouth of the source's own sound, block by block; return the keys of the parts."""
        context, info, rate = CallContext(key), source.info, SOURCE_AUDIO_FPS
        speech = await self._stages.prepare_speech(
            context, [AudioPart(source.key)], own_speech_key(key), info.duration_seconds
        )
        num_rows = max(1, min(speech.level.num_rows, round(info.duration_seconds * rate)))
        step = max(1, round(self._config.render.block_seconds * rate))
        mouths: list[str] = []
        for start in range(0, num_rows, step):
            span = FrameSpan(Fraction(rate), start, min(step, num_rows - start), num_rows)
            mouths.append(source_mouth_key(key, start))
            await self._stages.predict_source_mouth(context, speech, span, mouths[-1])
        return mouths

    def _copy(self, key: str, target: str) -> None:
        """Copy the result from the folder of one avatar to that of another, the report last."""
        report = self._read(key)
        self._files.stored.make_folder(f"{avatar_folder(target)}/{PEOPLE_PART}")
        pictures = range(0 if report is None else len(report.people))
        names: list[Callable[[str], str]] = [
            people_identities_key,
            *(partial(person_picture_key, number=each) for each in pictures),
            people_report_key,
        ]
        for name in names:
            with self._files.stored.fetched(name(key)) as path:
                self._files.stored.put(name(target), path.read_bytes())

    def _is_known(self, key: str) -> bool:
        return self._read(key) is not None

    def _read(self, key: str) -> PeopleReport | None:
        """Return the stored report; None if there is none, or one of another version."""
        try:
            with self._files.stored.fetched(people_report_key(key)) as path:
                content = json.loads(path.read_bytes())
                return PeopleReport.model_validate(content) if content.get("version") == PEOPLE_VERSION else None
        except (StoredFileError, ValueError, ValidationError):
            return None

    async def _report(self, key: str) -> PeopleReport:
        report = await asyncio.to_thread(self._read, key)
        if report is None:
            raise StoredFileError("The list of people was removed while it was read. Try again.")
        return report

    def _resolve(self, keys: Sequence[str], choice: FaceChoice) -> int | None:
        for key in keys:
            if (report := self._read(key)) is not None:
                with suppress(StoredFileError), self._files.stored.fetched(people_identities_key(key)) as path:
                    known = load_arrays(path)
                    return resolve(choice, report, [known[f"first_seen-{each.number}"] for each in report.people])
        return None

    def _identity(self, key: str, number: int) -> FaceChoice:
        """Return the choice of a person by appearance, and by the place where they are seen first."""
        with self._files.stored.fetched(people_identities_key(key)) as path:
            known = load_arrays(path)
        first_seen = known[f"first_seen-{number}"]
        own = known.pop(f"appearances-{number}")
        others = [array for name, array in known.items() if name.startswith("appearances-")]
        return FaceChoice.like(own, np.concatenate([own[:0], *others]), first_seen)
