"""Turns a received request into a stored job. Inputs are opened here, before anything is promised."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

from config import LabelsConfig
from errors import NotFoundError, OptionError, StateError
from jobs.admission import AdmissionController
from jobs.forecast import result_bytes
from jobs.job_request import JobRequest, TurnFacts, TurnsRequest, check_same_request
from jobs.output_picture import OutputPicture
from jobs.ports import Stages
from jobs.segments.plan import fit_to_speech
from jobs.sources.avatar_submission import AvatarSubmissions, Source, key_of, sha256_of
from jobs.sources.client_names import client_names
from jobs.turn_faces import same_faces, with_faces_of
from jobs.turns import checked_turns, faces_of
from media.playback import fit_audio
from media.probe import VideoInfo
from models.engines.catalog import EngineCatalog
from models.face.choice import FaceChoice, recorded_face
from storage.avatar_settings import AvatarSettings
from storage.file_keys import (
    audio_key,
    background_key,
    background_source_key,
    segments_folder,
    source_key,
)
from storage.file_store import FileStore
from storage.job_table import JobTable
from storage.records import (
    MUSIC,
    AvatarRecord,
    JobInputs,
    JobOptions,
    JobRecord,
    JobStatus,
    Turn,
    new_id,
    utc_now,
)
from telemetry.log_context import CallContext

_FACTS: Final = ("avatar_key", "turn_avatar_keys", "source_label", "audio_seconds", "result_seconds", "disk_bytes")
"""Fields of a job that follow from its inputs."""


class _Probed(NamedTuple):
    """The inputs of a job: length of each audio file by its field, the source, its digest, and its avatar's face."""

    audio_seconds: dict[str, float]
    source: VideoInfo
    sha256: str
    face: str | None


class _Facts(NamedTuple):
    """What is known of a job before it is stored; `options` are complete."""

    audio_seconds: float
    result_seconds: float
    disk_bytes: int
    source: VideoInfo
    options: JobOptions


class Submissions:
    """Checks and stores jobs. Repeating a call after a crash in the middle of it is safe."""

    def __init__(
        self,
        stages: Stages,
        table: JobTable,
        files: FileStore,
        admission: AdmissionController,
        avatars: AvatarSubmissions,
        engines: EngineCatalog,
        resolve_face: Callable[[str, str | None, FaceChoice], Awaitable[int | None]],
        labels: LabelsConfig | None = None,
    ) -> None:
        """Prepare for submissions.

        `engines` are those that jobs may name; `resolve_face` is `Avatars.resolve_face`; `labels` say which watermarks
        every result gets.
        """
        self._resolve = resolve_face
        self._avatars = avatars
        labels = labels or LabelsConfig()
        self._watermark_all, self._has_invisible_watermark = labels.visible, labels.invisible
        self._stages, self._table, self._files, self._admission = stages, table, files, admission
        self._engines = engines

    async def create_job(self, request: JobRequest) -> JobRecord:
        """Check the inputs, store the job durably and return its row.

        Raises:
            InputError: An input or an option is invalid.
            NotFoundError: There is no such avatar.
            StorageFullError: The disk would not hold the result.
            KeyReuseError: A different request with the same idempotency key has made a job in the meantime.
        """
        self._engines.check(request.options.engine, request.options.expressiveness)
        face = recorded_face(request.options.face, sha256_of(request.face_image))
        video_key = "" if request.video is None else key_of(request.video.sha256, face, request.owner)
        kept = {field: audio_key(request.job_id, field) for field in request.audio_files}
        kept_video = source_key(video_key) if video_key else ""
        found = await self._probe(CallContext(request.job_id), request, kept, kept_video)
        source = found.source
        if request.video is not None:
            await self._avatars.check_picture(request.face_image, video_key)
        if request.options.turns is not None:
            faces = await self._same_faces(request.options.turns, found, face, request.owner)
            options = request.options.model_copy(update={"turns": with_faces_of(request.options.turns, faces)})
            request = request.model_copy(update={"options": options})
        if request.options.background_gain_db is not None and not source.has_audio:
            raise OptionError("background_gain_db: the video has no sound.")
        await self._check_background(request)
        facts = self._facts(request, found.audio_seconds, source)
        # The background of an avatar may be another caller's, if the service had no API keys when it was sent.
        owner = request.owner if request.options.names_background else None
        async with self._avatars.folder_lock:  # so that nothing is stored, changed or deleted in between
            settings = await self._table.run_in_thread(self._settings, request)
            facts = facts._replace(options=facts.options.model_copy(update=settings.model_dump()))
            async with self._avatars.backgrounds.held(settings.background_id, owner) as background:
                file = request.background_file if background is None else background.file
                chosen = request.model_copy(update={"options": facts.options, "background_file": file})
                known = await self._table.run_in_thread(self._find_duplicate, request, facts.disk_bytes)
                job = known or await self._store_inputs(chosen, face, facts)
        uploads = (*request.audio_files.values(), request.video, request.face_image, request.background_file)
        await asyncio.to_thread(self._files.drop_uploads, *uploads)
        if known is not None:
            check_same_request(known, request.request_digest)
        return job

    async def retry_job(self, job: JobRecord, job_id: str) -> JobRecord:
        """Store a failed job again as the job `job_id`, with the same options and copies of its files.

        Raises:
            StateError: The job has not failed.
            NotFoundError: Files of the job are gone.
            StorageFullError: The disk would not hold the result.
        """
        if job.status is not JobStatus.FAILED:
            raise StateError(f"Job {job.id} cannot be retried: it is {job.status}, not failed.")
        self._admission.check_disk(job.disk_bytes)
        async with self._avatars.folder_lock:
            await asyncio.to_thread(self._copy_files_of_job, job, job_id)
            return await self._table.run_in_thread(self._store_again, job, job_id)

    def _copy_files_of_job(self, job: JobRecord, job_id: str) -> None:
        copies = {audio_key(job.id, field): audio_key(job_id, field) for field in job.audio_files}
        if job.background_file is not None:
            copies[background_key(job.id)] = background_key(job_id)
        if not all(self._files.has(key) for key in (*copies, *map(source_key, job.avatar_keys))):
            raise NotFoundError(f"The files of job {job.id} are gone. Submit them again.")
        self._files.stored.make_folder(segments_folder(job_id))
        for key, copy in copies.items():
            self._files.stored.copy(key, copy)

    def _store_again(self, job: JobRecord, job_id: str) -> JobRecord:
        for key in job.avatar_keys:
            self._table.update_avatar(key, last_used_at=utc_now())
        inputs = {name: getattr(job, name) for name in (*JobInputs.model_fields, *_FACTS, "watermark_id")}
        inputs |= {"idempotency_key": None, "request_digest": None}
        return self._table.insert_job(JobRecord(**inputs, id=job_id, created_at=utc_now()))

    async def check_turns(self, request: TurnsRequest) -> TurnFacts:
        """Check turns of which the texts are not yet spoken, like `create_job` does with all of them.

        Raises:
            InputError: An input or a turn is invalid.
            NotFoundError: There is no such avatar.
        """
        found = await self._probe(CallContext(new_id()), request)
        faces = await self._same_faces(request.turns, found, request.face, request.owner)
        video_seconds = _video_seconds(found.source)
        checked_turns(with_faces_of(request.turns, faces), found.audio_seconds, video_seconds, are_spoken=False)
        return TurnFacts(faces=faces, video_seconds=video_seconds)

    async def _probe(
        self,
        context: CallContext,
        request: JobRequest | TurnsRequest,
        moved: Mapping[str, str] | None = None,
        moved_video: str = "",
    ) -> _Probed:
        """What the inputs of a request are; `moved` says where an earlier attempt may have moved its files."""
        video: str | None = None
        if request.video is not None:
            video = await self._avatars.find_upload(request.video, moved_video)
        info: VideoInfo | None = None
        seconds: dict[str, float] = {}
        with client_names(*request.audio_files.values(), request.video):
            for field, file in request.audio_files.items():
                audio = await self._avatars.find_upload(file, (moved or {}).get(field, ""))
                probed = await self._stages.probe(context, video, audio)
                assert probed.audio is not None
                seconds[field] = probed.audio.duration_seconds
                info, video = info or probed.video, None
            if video is not None:
                info = (await self._stages.probe(context, video, None)).video
        if request.video is not None:
            assert info is not None
            return _Probed(seconds, info, request.video.sha256, None)
        avatar = await self._table.run_in_thread(self._avatars.usable, request.avatar_id or "", request.owner)
        return _Probed(seconds, await self._avatars.source_info(avatar), avatar.source_sha256, avatar.face)

    async def _same_faces(
        self, turns: Sequence[Turn], found: _Probed, face: str, owner: str | None
    ) -> tuple[str | None, ...]:
        """See `same_faces`; `face` is that of a job that brings its video."""
        return await same_faces(turns, found.face or face, lambda choice: self._resolve(found.sha256, owner, choice))

    @staticmethod
    def _facts(request: JobRequest, audio_seconds: Mapping[str, float], source: VideoInfo) -> _Facts:
        """What the files and options of a request mean for its job; OptionError for turns that cannot be spoken."""
        options, seconds = request.options, audio_seconds["audio"]
        video_seconds = _video_seconds(source)
        if request.max_audio_stretch is not None and video_seconds is not None:
            speed = fit_audio(seconds, video_seconds, request.max_audio_stretch)
            options, seconds = options.model_copy(update={"audio_speed": speed}), seconds / speed
        if options.turns is not None:
            of_speech = {field: length for field, length in audio_seconds.items() if field != MUSIC}
            turns = checked_turns(options.turns, of_speech, video_seconds)
            options = options.model_copy(update={"turns": turns})
            seconds = video_seconds or max(turn.end or 0.0 for turn in turns)
        picture = OutputPicture.of(options, source)
        num_frames, _ = fit_to_speech(options.loop, seconds, source, picture.info.fps)
        result_seconds = float(num_frames / picture.info.fps)
        disk_bytes = result_bytes(picture, result_seconds)
        return _Facts(seconds, result_seconds, disk_bytes, source, options)

    async def _store_inputs(self, request: JobRequest, face: str, facts: _Facts) -> JobRecord:
        """Move the uploads, then insert the row; safe to repeat after an interruption."""
        video, picture = request.video, request.face_image
        is_new_source = False
        if video is not None:
            key = key_of(video.sha256, face, request.owner)
            is_new_source = await asyncio.to_thread(self._avatars.move_source, video, picture, key)
        await asyncio.to_thread(self._move_files_of_job, request)
        avatar = await self._table.run_in_thread(self._store_source, request, face, facts, is_new_source)
        faces = {each.face for each in faces_of(facts.options.turns or ()) if each.face is not None}
        keys = {each: key_of(avatar.source_sha256, each, request.owner) for each in sorted(faces)}
        for each, key in keys.items():
            is_new = await asyncio.to_thread(self._avatars.copy_source, avatar.key, key)
            source = Source(avatar.source_sha256, avatar.label, facts.source)
            await self._table.run_in_thread(self._avatars.store, source, each, request.owner, is_new=is_new)
        return await self._table.run_in_thread(self._store, request, face, facts, avatar, keys)

    def _settings(self, request: JobRequest) -> AvatarSettings:
        """The movement and background of a job: what it sets, and the settings of its avatar for the rest."""
        if request.avatar_id is None:
            return request.options.or_default(AvatarSettings())
        default = self._avatars.usable(request.avatar_id, request.owner).settings
        return request.options.or_default(
            default.usable(
                scales_movement=self._engines.scales_movement(request.options.engine),
                background=request.background_file is None,
            )
        )

    def _move_files_of_job(self, request: JobRequest) -> None:
        self._files.stored.make_folder(segments_folder(request.job_id))
        for field, file in request.audio_files.items():
            self._files.take_upload(file.key, audio_key(request.job_id, field))
        if (file_id := request.options.background_id) is not None:
            self._files.stored.copy(background_source_key(file_id), background_key(request.job_id))
        elif request.background_file is not None:
            self._files.take_upload(request.background_file.key, background_key(request.job_id))

    def _store_source(self, request: JobRequest, face: str, facts: _Facts, is_new_source: bool) -> AvatarRecord:
        """Return the avatar of a job; insert its row if its source was sent."""
        if request.video is None:
            return self._avatars.usable(request.avatar_id or "", request.owner)
        source = Source(request.video.sha256, request.video.label, facts.source)
        return self._avatars.store(source, face, request.owner, is_new=is_new_source)

    def _store(
        self, request: JobRequest, face: str, facts: _Facts, avatar: AvatarRecord, turn_avatar_keys: dict[str, str]
    ) -> JobRecord:
        """Insert the row of a job whose files have been moved."""
        inputs = {name: getattr(request, name) for name in JobInputs.model_fields}
        # The options apply whatever the settings are when the job is resumed.
        is_marked = request.options.visible_label or self._watermark_all
        inputs["options"] = facts.options.model_copy(update={"face": face, "visible_label": is_marked})
        job = JobRecord(
            **inputs,
            id=request.job_id,
            avatar_key=avatar.key,
            turn_avatar_keys=turn_avatar_keys,
            source_label=avatar.label if request.video is None else request.video.label,
            audio_seconds=facts.audio_seconds,
            result_seconds=facts.result_seconds,
            disk_bytes=facts.disk_bytes,
            created_at=utc_now(),
        )
        return self._table.insert_job(job.with_watermark() if self._has_invisible_watermark else job)

    def _find_duplicate(self, request: JobRequest, disk_bytes: int) -> JobRecord | None:
        """The job of the same idempotency key, which may have arrived at another Ingress in the meantime.

        Raises:
            StorageFullError: The disk would not hold a new job.
        """
        self._admission.check_disk(disk_bytes)
        if request.idempotency_key is None:
            return None
        return self._table.find_job(request.owner, request.idempotency_key)

    async def _check_background(self, request: JobRequest) -> None:
        """Refuse a background file that is neither a picture nor a video."""
        if request.background_file is not None:
            kept = await self._avatars.find_upload(request.background_file, background_key(request.job_id))
            with client_names(request.background_file):
                await self._stages.probe(CallContext(request.job_id), kept, None)


def _video_seconds(source: VideoInfo) -> float | None:
    """The length of a video; None for a still, which lasts as long as what is spoken."""
    return None if source.is_still else float(source.num_frames / source.fps)
