"""Stores uploaded faces as avatars, for requests that create an avatar and for jobs with a video."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from lipwright.errors import OptionError, StateError
from lipwright.jobs.messages import decode_source_info, encode_source_info
from lipwright.jobs.model.avatar_settings import AvatarSettings, changed_settings
from lipwright.jobs.model.base import UploadedFile, new_id, utc_now
from lipwright.jobs.model.face_points import FacePoints
from lipwright.jobs.model.turns import PlannedTurn
from lipwright.jobs.ports import Stages
from lipwright.jobs.requests import AvatarChangeForm, AvatarForm
from lipwright.jobs.sources.backgrounds import Backgrounds
from lipwright.jobs.sources.client_names import client_names
from lipwright.jobs.turns import faces_of
from lipwright.media.probe import VideoInfo
from lipwright.storage.file_keys import avatar_folder, face_key, source_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.row_codec import AvatarRecord, AvatarStatus, avatar_key
from lipwright.telemetry.log_context import CallContext
from models.avatar.folder import AVATAR_VERSION
from models.face.choice import recorded_face
from models.track.marked_face import check_marks


class Source(NamedTuple):
    """A video or still: the hash of its content, the client's name, and what the probe found."""

    sha256: str
    label: str
    info: VideoInfo | None


class AvatarSubmissions:
    """Checks and stores avatars. Repeating a call after a crash in the middle of it is safe.

    Attributes:
        backgrounds: The stored backgrounds.
        folder_lock: Held while the row of an avatar and its files are made together.
    """

    def __init__(
        self,
        stages: Stages,
        table: JobTable,
        files: FileStore,
        backgrounds: Backgrounds,
        folder_lock: asyncio.Lock | None = None,
    ) -> None:
        """Prepare; for `folder_lock` see `Avatars`."""
        self._stages, self._table, self._files = stages, table, files
        self.backgrounds = backgrounds
        self.folder_lock = folder_lock or asyncio.Lock()

    async def create(self, form: AvatarForm, owner: str | None) -> AvatarRecord:
        """Check and store an avatar, pinned or as part of the cache.

        Raises:
            InputError: The video, the face choice or the background is invalid.
            NotFoundError: There is no such background.
        """
        face = recorded_face(form.face, sha256_of(form.face_image), numbers_of(form.face_points))
        key = key_of(form.video.sha256, face, owner)
        source = await self.find_upload(form.video, source_key(key))
        with client_names(form.video):
            probed = await self._stages.probe(CallContext(form.video.key), source, None)
        assert probed.video is not None
        form.avatar_settings.check_source(is_still=probed.video.is_still)
        check_face_points(form.face_points, probed.video)
        await self.check_picture(form.face_image, key)
        change = await self.backgrounds.stored(form.avatar_settings, form.background_file, owner)
        async with self.folder_lock, self.backgrounds.held(change.background_id, owner):
            known = await self._table.run_in_thread(self._table.find_avatar, key)
            settings = changed_settings(AvatarSettings() if known is None else known.settings, change)
            is_new = await asyncio.to_thread(self.move_source, form.video, form.face_image, key)
            avatar = await self._table.run_in_thread(
                self.store,
                Source(form.video.sha256, form.video.label, probed.video),
                face,
                owner,
                is_new=is_new,
                pinned=form.keep,
                analyse_on_create=True,
            )
            if settings != avatar.settings:
                avatar = await self._table.run_in_thread(self._table.update_avatar, key, settings=settings)
        await asyncio.to_thread(self._files.drop_uploads, form.video, form.face_image)
        return avatar

    async def change(self, avatar_id: str, form: AvatarChangeForm, owner: str | None) -> AvatarRecord:
        """Change the settings of an avatar; accepted jobs keep theirs.

        Raises:
            InputError: The background is invalid.
            NotFoundError: There is no such avatar or background.
        """
        known = await self._table.run_in_thread(self._table.get_avatar, avatar_id, owner)
        form.avatar_settings.check_source(is_still=(await self.source_info(known)).is_still)
        change = await self.backgrounds.stored(form.avatar_settings, form.background_file, owner)
        async with self.folder_lock, self.backgrounds.held(change.background_id, owner):
            avatar = await self._table.run_in_thread(self._table.get_avatar, avatar_id, owner)
            settings = changed_settings(avatar.settings, change)
            return await self._table.run_in_thread(self._table.update_avatar, known.key, settings=settings)

    async def find_upload(self, upload: UploadedFile, taken_to: str) -> str:
        """Return the key of an upload: its own, or the one to which an earlier attempt moved it."""
        return await asyncio.to_thread(self._files.find_upload, upload.key, taken_to)

    def usable(self, avatar_id: str, owner: str | None) -> AvatarRecord:
        """Return an avatar for a job; StateError if its analysis failed."""
        avatar = self._table.get_avatar(avatar_id, owner)
        if avatar.status is AvatarStatus.FAILED:
            reason = avatar.error.message if avatar.error is not None else "unknown"
            raise StateError(f"Avatar {avatar_id} cannot be used: its analysis failed: {reason}")
        return avatar

    async def source_info(self, avatar: AvatarRecord) -> VideoInfo:
        """Return what the probe found in an avatar's source."""
        if (info := decode_source_info(avatar.source_info)) is None:
            info = (await self._stages.probe(CallContext(avatar.key), source_key(avatar.key), None)).video
        assert info is not None
        return info

    async def check_picture(self, picture: UploadedFile | None, key: str) -> None:
        """Refuse a reference picture that cannot be opened; only the analysis checks that it shows a face."""
        if picture is not None:
            kept = await self.find_upload(picture, face_key(key))
            with client_names(picture):
                await self._stages.probe(CallContext(picture.key), kept, None)

    def move_source(self, video: UploadedFile, picture: UploadedFile | None, key: str) -> bool:
        """Move the uploads into the folder of their avatar unless it has a source; returns whether it had none."""
        if self._files.has(source_key(key)):
            return False
        if picture is not None:
            self._files.take_upload(picture.key, face_key(key))
        self._files.take_upload(video.key, source_key(key))
        return True

    def copy_source(self, key: str, target: str) -> bool:
        """Give another face of a source its own copy; returns whether it had none."""
        if self._files.has(source_key(target)):
            return False
        self._files.stored.make_folder(avatar_folder(target))
        self._files.stored.copy(source_key(key), source_key(target))
        return True

    async def store_faces(
        self, avatar: AvatarRecord, turns: Sequence[PlannedTurn], owner: str | None, info: VideoInfo
    ) -> dict[str, str]:
        """Store an avatar for each face that turns name, with a copy of the source; return their keys by face."""
        faces = {each.face for each in faces_of(turns) if each.face is not None}
        keys = {face: key_of(avatar.source_sha256, face, owner) for face in sorted(faces)}
        for face, key in keys.items():
            is_new = await asyncio.to_thread(self.copy_source, avatar.key, key)
            source = Source(avatar.source_sha256, avatar.label, info)
            await self._table.run_in_thread(self.store, source, face, owner, is_new=is_new)
        return keys

    def store(
        self,
        source: Source,
        face: str,
        owner: str | None,
        *,
        is_new: bool,
        pinned: bool = False,
        analyse_on_create: bool = False,
        belongs_to: str | None = None,
    ) -> AvatarRecord:
        """Insert the row of an avatar whose source has been moved, or touch that of a known avatar."""
        key = key_of(source.sha256, face, owner)
        known = self._table.find_avatar(key)
        if known is not None and not is_new:
            has_failed = known.status is AvatarStatus.FAILED and analyse_on_create
            again = {"status": AvatarStatus.ANALYSING, "error": None} if has_failed else {}
            return self._table.update_avatar(
                key,
                **again,
                pinned=known.pinned or pinned,
                analyse_on_create=known.analyse_on_create or analyse_on_create,
                last_used_at=utc_now(),
            )
        now = utc_now()
        return self._table.put_avatar(
            AvatarRecord(
                key=key,
                id=new_id(),
                pinned=pinned,
                analyse_on_create=analyse_on_create,
                owner=owner,
                label=source.label,
                face=face,
                source_sha256=source.sha256,
                source_info=None if source.info is None else encode_source_info(source.info),
                settings=AvatarSettings() if known is None else known.settings,
                clips={} if known is None else known.clips,
                belongs_to=belongs_to,
                created_at=now,
                last_used_at=now,
            )
        )


def key_of(source_sha256: str, face: str, owner: str | None) -> str:
    """Return the key of an avatar of the current version."""
    return avatar_key(source_sha256, face, AVATAR_VERSION, owner)


def sha256_of(upload: UploadedFile | None) -> str | None:
    """Return the hash of a file that may be missing."""
    return None if upload is None else upload.sha256


def numbers_of(points: FacePoints | None) -> tuple[float, ...] | None:
    """Return the numbers of points that may be missing."""
    return None if points is None else points.numbers


def check_face_points(points: FacePoints | None, source: VideoInfo) -> None:
    """Raise OptionError for points in a video, or points that are no face in the picture."""
    if points is None:
        return
    if not source.is_still:
        raise OptionError("face_points: only for still pictures. In a video, the face is found in each frame.")
    check_marks(points.numbers, source.width, source.height)
