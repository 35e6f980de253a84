"""Prepares avatars for live sessions: the analysis, and the matte and file of the background."""

from __future__ import annotations

import asyncio

from jobs.messages import AvatarRef, Background, ShownAvatar
from jobs.sources.avatars import Avatars, ignore_progress
from jobs.sources.backgrounds import Backgrounds
from media.output.fitted_background import playback_of
from storage.background_settings import BackgroundSettings
from storage.records import AvatarRecord


class LiveAvatars:
    """Prepares avatars for live sessions."""

    def __init__(self, avatars: Avatars, backgrounds: Backgrounds, analysing: asyncio.Semaphore) -> None:
        """Prepare; `analysing` limits how many avatars are analysed at a time."""
        self._avatars, self._backgrounds, self._analysing = avatars, backgrounds, analysing

    async def present(
        self, record: AvatarRecord, owner: str | None, engine: str, background: BackgroundSettings
    ) -> ShownAvatar:
        """Return an avatar that is analysed for an engine and held, and its background, whose matte is finished.

        If `background` chooses nothing, the avatar's is shown. See `Avatars.ensure`, `Avatars.matte` and
        `Backgrounds.ensure`.
        """
        settings = background.or_default(record.background)
        # The background of an avatar may be another caller's, if the service had no API keys when it was sent.
        owner = owner if background.names_background else None
        async with self._analysing:
            avatar = await self._avatars.ensure(record.key, engine, ignore_progress, verify=True)
            shown = ShownAvatar(avatar)
            if settings.names_background:
                shown = ShownAvatar(avatar, await self._background(avatar, owner, settings))
        await self._avatars.hold(record.key)
        return shown

    async def _background(self, avatar: AvatarRef, owner: str | None, settings: BackgroundSettings) -> Background:
        file, after_end = None, settings.background_loop
        if settings.background_id is not None:  # first: a matte takes longer
            file = await self._backgrounds.ensure(
                settings.background_id, owner, avatar.source.info, after_end, ignore_progress
            )
        matte = await self._avatars.matte(avatar, settings.matte, ignore_progress)
        return Background(matte, settings.background, file, playback_of(after_end).after_end)
