"""The clips of avatars, and the composites that jobs and live sessions play: all clips of an avatar in one source."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Final

from lipwright.errors import NotFoundError, OptionError, StateError
from lipwright.jobs.messages import decode_source_info
from lipwright.jobs.model.base import new_id, utc_now
from lipwright.jobs.model.clip import AvatarClip
from lipwright.jobs.ports import Stages
from lipwright.jobs.requests import ClipForm
from lipwright.jobs.sources.avatar_submission import AvatarSubmissions, Source, key_of
from lipwright.jobs.sources.client_names import client_names
from lipwright.media.probe import VideoInfo
from lipwright.storage.file_keys import source_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.row_codec import AvatarRecord, AvatarStatus
from lipwright.telemetry.log_context import CallContext
from models.clips.compose import COMPOSITE_VERSION
from models.clips.fitting import MAX_SECONDS, MIN_SECONDS
from models.clips.graph import OWN

_MAX_CLIPS: Final = 16


class Clips:
    """Adds and removes clips. Repeating a call after a crash in the middle of it is safe."""

    def __init__(self, stages: Stages, table: JobTable, files: FileStore, avatars: AvatarSubmissions) -> None:
        """Prepare; `avatars` stores the videos."""
        self._stages, self._table, self._files, self._avatars = stages, table, files, avatars

    async def add(self, avatar_id: str, form: ClipForm, owner: str | None) -> tuple[AvatarRecord, AvatarRecord]:
        """Check and store a clip; return the avatar and the row of the clip.

        Raises:
            InputError: The video does not fit, or the avatar is a still.
            NotFoundError: There is no such avatar.
            StateError: The avatar cannot be used, has a clip of that name, or has too many.
        """
        accepts = partial(self._checked, avatar_id, form.name, owner)
        own = await accepts(None)
        face = f"avatar:{own.key}"
        clip = AvatarClip(kind=form.kind, key=key_of(form.video.sha256, face, own.owner), created_at=utc_now())
        upload = await self._avatars.find_upload(form.video, source_key(clip.key))
        with client_names(form.video):
            info = (await self._stages.probe(CallContext(form.video.key), upload, None)).video
        _check_video(info)
        async with self._avatars.folder_lock:
            own = await accepts(clip)
            is_new = await asyncio.to_thread(self._avatars.move_source, form.video, None, clip.key)
            source = Source(form.video.sha256, form.video.label, info)
            row = await self._table.run_in_thread(
                self._avatars.store, source, face, own.owner, is_new=is_new, analyse_on_create=True, belongs_to=own.key
            )
            clips = {**own.clips, form.name: own.clips.get(form.name, clip)}
            own = await self._table.run_in_thread(self._table.update_avatar, own.key, clips=clips)
        await asyncio.to_thread(self._files.drop_uploads, form.video)
        return own, row

    async def delete(self, avatar_id: str, name: str, owner: str | None) -> None:
        """Remove a clip from its avatar; `Avatars.sweep` deletes the files that nothing needs.

        Raises:
            NotFoundError: There is no such avatar or clip.
        """
        async with self._avatars.folder_lock:
            own = await self._table.run_in_thread(self._table.get_avatar, avatar_id, owner)
            if name not in own.clips:
                raise NotFoundError(f"Avatar {own.id} has no clip {name[:80]!r}.")
            clips = {other: clip for other, clip in own.clips.items() if other != name}
            await self._table.run_in_thread(self._table.update_avatar, own.key, clips=clips)

    async def _checked(self, avatar_id: str, name: str, owner: str | None, clip: AvatarClip | None) -> AvatarRecord:
        """Return the avatar if it may have the clip; `clip` may be there from an earlier attempt."""
        own = await self._table.run_in_thread(self._avatars.usable, avatar_id, owner)
        info = decode_source_info(own.source_info)
        if info is not None and (info.is_still or info.duration_seconds < MIN_SECONDS):
            found = "this one is a still picture" if info.is_still else f"this one lasts {info.duration_seconds:.1f} s"
            raise OptionError(f"Clips need an avatar that was made from a video of {MIN_SECONDS:g} s or more; {found}.")
        known = own.clips.get(name)
        if clip is None or (known is not None and (known.kind, known.key) == (clip.kind, clip.key)):
            return own
        if known is not None:
            raise StateError(f"Avatar {own.id} has a clip {name!r} already. Delete it first, or choose a name.")
        if len(own.clips) >= _MAX_CLIPS:
            raise StateError(f"Avatar {own.id} has {len(own.clips)} clips; the limit is {_MAX_CLIPS}.")
        return own


def _check_video(info: VideoInfo | None) -> None:
    if info is None or info.is_still:
        raise OptionError("video: expected a video, found a still picture.")
    if not MIN_SECONDS <= info.duration_seconds <= MAX_SECONDS:
        found = f"{info.duration_seconds:.1f}"
        raise OptionError(f"video: expected {MIN_SECONDS:g} to {MAX_SECONDS:g} seconds, found {found}.")


def composite_key(parts: Mapping[str, AvatarClip]) -> str:
    """Return the key of a composite, 32 hexadecimal digits from the names, kinds and keys of its parts."""
    lines = (f"{name} {part.kind} {part.key}" for name, part in parts.items())
    return hashlib.sha256("\n".join((COMPOSITE_VERSION, *lines)).encode()).hexdigest()[:32]


def parts_of(table: JobTable, avatar: AvatarRecord, *, ready_only: bool = False) -> dict[str, AvatarClip]:
    """Return the parts of an avatar's composite: its own video, and the clips whose analysis has not failed."""
    rows = table.clips_of(avatar.key) if avatar.clips else {}
    usable = {AvatarStatus.READY} if ready_only else {AvatarStatus.READY, AvatarStatus.ANALYSING}
    clips = {name: clip for name, clip in avatar.clips.items() if clip.key in rows and rows[clip.key].status in usable}
    return {OWN: AvatarClip(kind=None, key=avatar.key, created_at=avatar.created_at), **clips}


def store_composite(
    table: JobTable, avatar: AvatarRecord, parts: Mapping[str, AvatarClip], *, analyse_on_create: bool = False
) -> str:
    """Return the key of a composite; insert its row, or touch that of a known one. `Avatars.ensure` makes it."""
    key, now = composite_key(parts), utc_now()
    if table.find_avatar(key) is not None:
        table.touch_avatar(key)
        return key
    composite = AvatarRecord(
        key=key,
        id=new_id(),
        analyse_on_create=analyse_on_create,
        owner=avatar.owner,
        label=avatar.label,
        source_sha256="",
        belongs_to=avatar.key,
        parts=dict(parts),
        created_at=now,
        last_used_at=now,
    )
    table.put_avatar(composite)
    return key
