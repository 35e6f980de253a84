"""The mattes of sources: each is made once, when a job first asks for another background."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from pydantic import ValidationError

from lipwright.config import PipelineConfig
from lipwright.errors import OptionError, StoredFileError
from lipwright.jobs.messages import AvatarRef, MatteRef
from lipwright.jobs.ports import TRACK_CHUNK_FRAMES, Stages
from lipwright.jobs.retry import retry
from lipwright.jobs.single_flight import Progress, SingleFlight
from lipwright.media.matte import ScreenColour, matte_info
from lipwright.media.output.backgrounds import MatteMode
from lipwright.storage.file_keys import MATTE_REPORT, MATTE_VIDEO, matte_part, matte_piece, matte_pieces_part, split
from lipwright.storage.file_store import FileStore
from lipwright.telemetry.log_context import CallContext
from models.matting.report import MATTE_VERSION, MatteReport


class _Wanted(NamedTuple):
    """Identifies a matte: the folder of an avatar, and how the matte is made."""

    folder: str
    mode: MatteMode

    @property
    def name(self) -> str:
        return f"{self.mode}-{MATTE_VERSION}"

    def file(self, name: str) -> str:
        """Return the key of a file of the finished matte."""
        return f"{self.folder}/{matte_part(self.name)}{name}"

    @property
    def pieces(self) -> str:
        """The key of the folder with the pieces."""
        return f"{self.folder}/{matte_pieces_part(self.name)}".rstrip("/")


class Mattes:
    """Makes mattes on demand. They are kept in the folders of avatars and removed with them."""

    def __init__(self, config: PipelineConfig, stages: Stages, files: FileStore) -> None:
        """Prepare; mattes are made on demand."""
        self._config, self._stages, self._files = config, stages, files
        self._making: SingleFlight[_Wanted, None] = SingleFlight()

    async def ensure(self, avatar: AvatarRef, mode: MatteMode, on_progress: Progress) -> MatteRef:
        """Return the matte of an avatar's source; make it first if it is not stored.

        Callers share the work: it runs while anybody waits for it, and another call continues where it ended. Mode
        `auto` keys a green or blue screen if there is one, and segments people otherwise.

        Raises:
            OptionError: The mode is `chroma`, and the source shows no screen.
            LipwrightError: Whatever else ended the work.
        """
        wanted = _Wanted(avatar.folder, mode)
        if (found := await asyncio.to_thread(self._find, wanted, avatar)) is not None:
            return found
        await self._making.run(wanted, lambda report: self._make_retried(wanted, avatar, report), on_progress)
        if (made := await asyncio.to_thread(self._find, wanted, avatar)) is None:
            raise StoredFileError("The matte of the source was removed while it was made. Try again.")
        return made

    def is_making(self, folder: str) -> bool:
        """Return whether a matte is being made in the folder of an avatar."""
        return any(wanted.folder == folder for wanted in self._making)

    def _find(self, wanted: _Wanted, avatar: AvatarRef) -> MatteRef | None:
        """Return the stored matte; None if there is none, or it is damaged."""
        key = wanted.file(MATTE_VIDEO)
        try:
            with self._files.stored.fetched(wanted.file(MATTE_REPORT)) as path:
                report = MatteReport.model_validate_json(path.read_bytes())
        except (StoredFileError, ValidationError):
            return None
        if not self._files.stored.intact({key: report.sha256}):
            return None
        return MatteRef(key, matte_info(avatar.source.info), report)

    async def _make_retried(self, wanted: _Wanted, avatar: AvatarRef, report: Progress) -> None:
        async def make() -> None:
            try:
                await self._make(wanted, avatar, report)
            except StoredFileError:  # a piece was lost or damaged: make all of them again, once
                await asyncio.to_thread(self._files.stored.remove_folder, wanted.pieces)
                await self._make(wanted, avatar, report)

        await retry(make, self._config.jobs)

    async def _make(self, wanted: _Wanted, avatar: AvatarRef, report: Progress) -> None:
        """Make the pieces that are missing, then join them."""
        context, source = CallContext(split(wanted.folder)[1]), avatar.source
        screen = await self._screen(context, avatar, wanted.mode)
        self._files.stored.make_folder(wanted.pieces)
        num_frames, step = source.info.num_frames, TRACK_CHUNK_FRAMES
        pieces: list[str] = []
        for start in range(0, num_frames, step):
            stop = min(start + step, num_frames)
            before = pieces[-1] if pieces else None
            pieces.append(f"{wanted.pieces}/{matte_piece(start)}")
            if not await asyncio.to_thread(self._files.has, pieces[-1]):
                await self._stages.matte(context, avatar, screen, start, stop, before, pieces[-1])
            await report(0.98 * stop / num_frames)
        await self._stages.join_matte(context, avatar, matte_part(wanted.name), screen, pieces)
        await asyncio.to_thread(self._files.stored.remove_folder, wanted.pieces)

    async def _screen(self, context: CallContext, avatar: AvatarRef, mode: MatteMode) -> ScreenColour | None:
        if mode == "person":
            return None
        screen = await self._stages.find_screen(context, avatar.source, mode == "chroma")
        if screen is None and mode == "chroma":
            raise OptionError(
                "Expected a source with a green or blue screen behind the person, found none. "
                "Use the matte `person`, which needs no screen."
            )
        return screen
