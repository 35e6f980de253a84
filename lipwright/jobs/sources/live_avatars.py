"""Prepares avatars for live sessions: the analysis, and the matte and file of the background."""

from __future__ import annotations

import asyncio
from typing import Final

from lipwright.errors import NotFoundError, StoredFileError
from lipwright.jobs.messages import AvatarRef, Background, ResolvedAvatar, behaviour_of
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.jobs.single_flight import ignore_progress
from lipwright.jobs.sources.avatars import Avatars
from lipwright.jobs.sources.backgrounds import Backgrounds
from lipwright.media.output.backgrounds import playback_of
from lipwright.storage.row_codec import AvatarRecord
from models.engines.catalog import EngineCatalog

_MAX_CHANGES: Final = 8
"""Changes of an avatar while a session is prepared; the session begins with what the last of them found."""


class LiveAvatars:
    """Prepares avatars for live sessions."""

    def __init__(
        self, avatars: Avatars, backgrounds: Backgrounds, engines: EngineCatalog, analysing: asyncio.Semaphore
    ) -> None:
        """Prepare; `analysing` limits how many avatars are analysed at a time."""
        self._avatars, self._backgrounds, self._engines, self._analysing = avatars, backgrounds, engines, analysing

    async def present(
        self, record: AvatarRecord, owner: str | None, engine: str, settings: AvatarSettings
    ) -> ResolvedAvatar:
        """Return an avatar that is analysed for an engine and pinned, how it moves, and its background.

        What `settings` do not set is as the avatar has it when the matte of the background is finished. See
        `Avatars.ensure`, `Avatars.matte` and `Backgrounds.ensure`.

        Raises:
            OptionError: The engine cannot scale the movement, and the `expressiveness` of `settings` is not 1, or the
                source is a video, which cannot have another expression.
        """
        self._engines.check_expressiveness(engine, settings.expressiveness)
        async with self._analysing:
            key = await self._avatars.composite_of(record.key)
            avatar = await self._avatars.ensure(key, engine, ignore_progress, verify=True)
            settings.check_source(is_still=avatar.source.info.is_still)
            default = await self._default(record.key, engine)
            for _ in range(_MAX_CHANGES):  # the background and its matte may take minutes
                used, failure = default, None
                try:
                    shown = await self._resolve(avatar, owner, settings, used)
                except (NotFoundError, StoredFileError) as error:
                    failure = error
                default = await self._default(record.key, engine)
                if default == used:
                    break
            if failure is not None:  # it was not the background that the avatar had before, deleted in the meantime
                raise failure
        await self._avatars.pin(record.key)
        return shown._replace(graph=await self._avatars.graph(key))

    async def _default(self, key: str, engine: str) -> AvatarSettings:
        """Return what a session of an avatar shows that sets nothing; NotFoundError if the avatar was deleted."""
        settings = await self._avatars.settings(key)
        return settings.usable(scales_movement=self._engines.scales_movement(engine))

    async def _resolve(
        self, avatar: AvatarRef, owner: str | None, settings: AvatarSettings, default: AvatarSettings
    ) -> ResolvedAvatar:
        chosen = settings.or_default(default)
        background = None
        if chosen.names_background:
            # The background of an avatar may be another caller's, if the service had no API keys when it was sent.
            background = await self._background(avatar, owner if settings.names_background else None, chosen)
        return ResolvedAvatar(avatar, background, chosen.expressiveness, behaviour_of(chosen))

    async def _background(self, avatar: AvatarRef, owner: str | None, settings: AvatarSettings) -> Background:
        file, after_end = None, settings.background_loop
        if settings.background_id is not None:  # first: a matte takes longer
            file = await self._backgrounds.ensure(
                settings.background_id, owner, avatar.source.info, after_end, ignore_progress
            )
        matte = await self._avatars.mattes.ensure(avatar, settings.matte, ignore_progress)
        return Background(matte, settings.background, file, playback_of(after_end).after_end)
