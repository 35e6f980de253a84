"""Intake: from a received request to a stored job or avatar. Inputs are opened here, before anything is promised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from errors import InputError, StateError
from jobs.admission import AdmissionDesk
from jobs.forecast import result_bytes
from jobs.idempotency import check_same_request
from jobs.ports import Stages
from models.face.choice import recorded_face
from models.presenter.folder import PRESENTER_VERSION
from storage.job_table import JobTable
from storage.local.file_store import FileStore
from storage.records import (
    AvatarRecord,
    AvatarRequest,
    AvatarStatus,
    JobOptions,
    JobRecord,
    SubmitRequest,
    UploadedFile,
    avatar_key,
    new_id,
    utc_now,
)
from telemetry.log_context import Work


class _Costs(NamedTuple):
    """What a job is before it is made: seconds of speech, and the disk that it needs at most."""

    audio_seconds: float
    disk_bytes: int


class Intake:
    """Checks and stores what callers send. What it is asked for twice, after a crash in the middle, it does once."""

    def __init__(
        self,
        stages: Stages,
        table: JobTable,
        files: FileStore,
        desk: AdmissionDesk,
        check_engine: Callable[[str], None],
        marks_all: bool = False,
    ) -> None:
        """`check_engine` raises OptionError of an engine that cannot do a job; `marks_all` marks every job visibly."""
        self._marks_all = marks_all
        self._stages, self._table, self._files, self._desk = stages, table, files, desk
        self._check_engine = check_engine

    async def job(self, request: SubmitRequest) -> JobRecord:
        """Check the inputs, store the job for good and return its row.

        Raises:
            InputError: An input or an option cannot be used.
            NotFoundError: There is no such avatar.
            StorageFullError: The disk would not hold the result.
            KeyReuseError: Another request with the same idempotency key has made a job meanwhile.
        """
        self._check_engine(request.options.engine)
        face = recorded_face(request.options.face, _sha256(request.face_image))
        audio = self._files.find_upload(request.audio.key, self._files.audio_path(request.job_id))
        video = self._source_path(request.video, face, request.owner) if request.video is not None else None
        with _client_names(request.audio, request.video):
            probed = await self._stages.probe(Work(request.job_id), video, audio)
        assert probed.audio is not None
        seconds = probed.audio.duration_seconds
        if request.video is not None:
            assert probed.video is not None
            await self._check_picture(request.face_image, _key(request.video, face, request.owner))
            frame = (probed.video.width, probed.video.height, probed.video.fps)
        else:
            avatar = await self._table.off_loop(self._speakable, request.avatar_id or "", request.owner)
            frame = await self._avatar_frame(avatar)
        costs = _Costs(seconds, result_bytes(*frame, seconds))
        return await self._table.off_loop(self._store, request, face, costs)

    def _store(self, request: SubmitRequest, face: str, costs: _Costs) -> JobRecord:
        """Keep the uploads and the row, with nobody in between."""
        self._desk.check_disk(costs.disk_bytes)
        if (known := self._known(request)) is not None:
            self._drop(request.audio, request.video, request.face_image)
            check_same_request(known, request.request_digest)
            return known
        if request.video is not None:
            avatar = self._keep_source(request.video, (face, request.face_image), request.owner)
        else:
            avatar = self._speakable(request.avatar_id or "", request.owner)
        self._files.job_dir(request.job_id)
        self._files.take_upload(request.audio.key, self._files.audio_path(request.job_id))
        return self._table.insert_job(
            JobRecord(
                id=request.job_id,
                options=self._kept_options(request, face),
                audio=request.audio,
                video=request.video,
                avatar_key=avatar.key,
                source_label=avatar.label if request.video is None else request.video.label,
                metadata=request.metadata,
                request_digest=request.request_digest,
                base_url=request.base_url,
                audio_seconds=costs.audio_seconds,
                disk_bytes=costs.disk_bytes,
                owner=request.owner,
                idempotency_key=request.idempotency_key,
                callback_url=request.callback_url,
                priority=request.priority,
                created_at=utc_now(),
            )
        )

    async def avatar(self, request: AvatarRequest) -> AvatarRecord:
        """Check and store a presenter, to be kept or as part of the cache.

        Raises:
            InputError: The video or the face choice cannot be used.
        """
        face = recorded_face(request.face, _sha256(request.face_image))
        path = self._source_path(request.video, face, request.owner)
        with _client_names(request.video):
            await self._stages.probe(Work(request.video.key), path, None)
        await self._check_picture(request.face_image, _key(request.video, face, request.owner))
        whom, owner = (face, request.face_image), request.owner
        return await self._table.off_loop(
            self._keep_source, request.video, whom, owner, pinned=request.keep, awaited=True
        )

    def _kept_options(self, request: SubmitRequest, face: str) -> JobOptions:
        """The options that the job is done with, whatever the settings are when it is taken up again."""
        is_marked = request.options.visible_label or self._marks_all
        return request.options.model_copy(update={"face": face, "visible_label": is_marked})

    def _source_path(self, video: UploadedFile, face: str, owner: str | None) -> Path:
        return self._files.find_upload(video.key, self._files.avatar_source_path(_key(video, face, owner)))

    def _known(self, request: SubmitRequest) -> JobRecord | None:
        """The job of the same idempotency key: it can have come by another way while this one was received."""
        if request.idempotency_key is None:
            return None
        return self._table.find_job(request.owner, request.idempotency_key)

    def _drop(self, *uploads: UploadedFile | None) -> None:
        for upload in uploads:
            if upload is not None:
                self._files.delete_upload(upload.key)

    def _speakable(self, avatar_id: str, owner: str | None) -> AvatarRecord:
        avatar = self._table.get_avatar(avatar_id, owner)
        if avatar.status is AvatarStatus.FAILED:
            reason = avatar.error.message if avatar.error is not None else "unknown"
            raise StateError(f"Avatar {avatar_id} cannot speak, its analysis failed: {reason}")
        return avatar

    async def _avatar_frame(self, avatar: AvatarRecord) -> tuple[int, int, Fraction]:
        """Width and height in pixels and frames per second of an avatar's source."""
        if avatar.info is not None:
            return avatar.info.width, avatar.info.height, Fraction(avatar.info.fps)
        probed = await self._stages.probe(Work(avatar.key), self._files.avatar_source_path(avatar.key), None)
        assert probed.video is not None
        return probed.video.width, probed.video.height, probed.video.fps

    async def _check_picture(self, picture: UploadedFile | None, key: str) -> None:
        """Refuse a reference picture that cannot be opened; whether it shows a face, the analysis finds out."""
        if picture is not None:
            path = self._files.find_upload(picture.key, self._files.avatar_face_path(key))
            with _client_names(picture):
                await self._stages.probe(Work(picture.key), path, None)

    def _keep_source(
        self,
        video: UploadedFile,
        whom: tuple[str, UploadedFile | None],
        owner: str | None,
        *,
        pinned: bool = False,
        awaited: bool = False,
    ) -> AvatarRecord:
        """Move uploads into the avatar of their content; a known source is dropped in favour of the kept one."""
        face, picture = whom
        key = _key(video, face, owner)
        known = self._table.find_avatar(key)
        path = self._files.avatar_source_path(key)
        if known is not None and path.is_file():
            self._drop(video, picture)
            return self._table.update_avatar(
                key, pinned=known.pinned or pinned, awaited=known.awaited or awaited, last_used_at=utc_now()
            )
        self._files.avatar_dir(key)
        self._files.take_upload(video.key, path)
        if picture is not None:
            self._files.take_upload(picture.key, self._files.avatar_face_path(key))
        now = utc_now()
        return self._table.put_avatar(
            AvatarRecord(
                key=key,
                id=new_id(),
                pinned=pinned,
                awaited=awaited,
                owner=owner,
                label=video.label,
                face=face,
                source_sha256=video.sha256,
                created_at=now,
                last_used_at=now,
            )
        )


def _key(video: UploadedFile, face: str, owner: str | None) -> str:
    return avatar_key(video.sha256, face, PRESENTER_VERSION, owner)


def _sha256(upload: UploadedFile | None) -> str | None:
    return None if upload is None else upload.sha256


@contextmanager
def _client_names(*uploads: UploadedFile | None) -> Iterator[None]:
    """Let errors inside the block name a file as its sender does."""
    try:
        yield
    except InputError as error:
        text = str(error)
        for upload in uploads:
            if upload is not None and upload.label:
                text = text.replace(upload.key, upload.label)
        raise type(error)(text) from None
