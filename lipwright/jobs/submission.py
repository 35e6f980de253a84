"""Turns a received request into a stored job. Inputs are opened here, before anything is promised."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from zlib import crc32

from lipwright.errors import NotFoundError, OptionError, StateError, StoredFileError
from lipwright.jobs.admission import AdmissionController
from lipwright.jobs.job_trace import trace_headers
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.jobs.model.base import utc_now
from lipwright.jobs.model.clip import AvatarClip
from lipwright.jobs.model.plan import JobPlan
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.model.turns import MAX_TURNS, PlannedTurn
from lipwright.jobs.planning import (
    JobLength,
    acted_text,
    checked_plan,
    expected_seconds,
    first_plan,
    length_of,
    sent_turns,
    speech_label,
    stored_fields,
    video_seconds,
    with_audio_speed,
    with_clips,
    with_stored_fields,
)
from lipwright.jobs.requests import RequestContext, check_same_request
from lipwright.jobs.services import JobServices
from lipwright.jobs.sources.avatar_submission import Source, check_face_points, key_of, numbers_of, sha256_of
from lipwright.jobs.sources.client_names import client_names
from lipwright.jobs.sources.clips import parts_of, store_composite
from lipwright.jobs.turn_faces import JobSource, with_one_face_per_person
from lipwright.jobs.turn_sources import MAIN_SPEAKER, with_faces
from lipwright.jobs.turns import texts_of
from lipwright.jobs.voices import with_voices
from lipwright.media.probe import VideoInfo
from lipwright.media.subtitles import diarization
from lipwright.media.subtitles.actions import checked_action
from lipwright.media.subtitles.burnt import check_fonts
from lipwright.storage.file_keys import (
    background_source_key,
    job_cues_folder,
    job_file_key,
    segments_folder,
    source_key,
)
from lipwright.storage.row_codec import AvatarRecord
from lipwright.telemetry.log_context import CallContext
from models.clips.graph import OWN
from models.face.choice import recorded_face

_COPIED_FIELDS: Final = (
    *("owner", "priority", "base_url", "callback_url", "metadata", "engine", "format", "audio_label", "source_label"),
    *("upload_bytes", "avatar_key", "turn_avatar_keys", "audio_seconds", "result_seconds", "disk_bytes"),
    *("watermark_id", "revision_of", "spec", "plan"),
)


class _Probed(NamedTuple):
    """The inputs of a job: length of each audio file by its field, the source, its digest, and its avatar's face.

    For `parts` see `lipwright.jobs.sources.clips.parts_of`.
    """

    audio_seconds: dict[str, float]
    source: VideoInfo
    sha256: str
    face: str | None
    parts: dict[str, AvatarClip]


class Submissions:
    """Checks and stores jobs. Repeating a call after a crash in the middle of it is safe."""

    def __init__(self, services: JobServices, admission: AdmissionController) -> None:
        """Prepare for submissions."""
        self._config, self._stages, self._engines = services.config, services.stages, services.engines
        self._table, self._files = services.table, services.files
        self._avatars, self._people = services.avatar_submissions, services.avatars.people
        self._admission, self._check_texts = admission, services.check_texts

    async def create_job(self, spec: JobSpec, context: RequestContext) -> JobRecord:
        """Check the inputs, store the job durably and return its row. Texts are spoken when the job runs.

        Raises:
            InputError: An input or an option is invalid.
            NotFoundError: There is no such avatar.
            StorageFullError: The disk would not hold the result.
            KeyReuseError: A different request with the same idempotency key has made a job in the meantime.
        """
        self._engines.check(self._engine(spec), spec.expressiveness)
        face = recorded_face(spec.face, sha256_of(spec.face_image), numbers_of(spec.face_points))
        video_key = "" if spec.video is None else key_of(spec.video.sha256, face, context.owner)
        found = await self._probe(spec, context, video_key)
        if spec.video is not None:
            await self._avatars.check_picture(spec.face_image, video_key)
        spec.check_source(is_still=found.source.is_still)
        check_face_points(spec.face_points, found.source)
        if spec.background_gain_db is not None and not found.source.has_audio:
            raise OptionError("background_gain_db: the video has no sound.")
        await self._check_background(spec, context.job_id)
        plan, length = await self._make_plan(spec, context, found, face)
        # The background of an avatar may be another caller's, if the service had no API keys when it was sent.
        owner = context.owner if spec.names_background else None
        async with self._avatars.folder_lock:  # so that nothing is stored, changed or deleted in between
            settings = await self._table.run_in_thread(self._settings, spec, context.owner)
            async with self._avatars.backgrounds.held(settings.background_id, owner) as background:
                file = spec.background_file if background is None else background.file
                plan = plan.with_options(**settings.model_dump()).model_copy(update={"background_file": file})
                known = await self._table.run_in_thread(self._find_duplicate, context, length.disk_bytes)
                job = known or await self._store_inputs(spec, context, plan, length, found.source)
        await asyncio.to_thread(self._files.drop_uploads, *spec.files)
        if known is not None:
            check_same_request(known, context.request_digest)
        return job

    async def retry_job(self, job: JobRecord, job_id: str) -> JobRecord:
        """Store a failed job again as the job `job_id`, with the same plan and copies of its files.

        Raises:
            StateError: The job has not failed.
            NotFoundError: The job was deleted, or files of it are gone.
            StorageFullError: The disk would not hold the result.
        """
        if job.status is not JobStatus.FAILED:
            raise StateError(f"Job {job.id} cannot be retried: its status is {job.status}, not failed.")
        return await self.store_copy(job, job_id)

    async def store_copy(self, job: JobRecord, job_id: str, **changes: object) -> JobRecord:
        """Store a job again as the job `job_id`, with copies of its files and with other values of some fields.

        Raises:
            NotFoundError: The job was deleted, or files of it are gone.
            StoredFileError: A file was lost during the copy, and the job still exists.
            StorageFullError: The disk would not hold the result.
        """
        await self._table.run_in_thread(self._admission.check_disk, job.disk_bytes)
        async with self._avatars.folder_lock:
            try:
                await asyncio.to_thread(self._copy_files_of_job, job, job_id)
            except StoredFileError:
                await self._table.run_in_thread(self._table.get_job, job.id)  # raises if the job was deleted
                raise
            return await self._table.run_in_thread(self._store_again, job, job_id, changes)

    def _copy_files_of_job(self, job: JobRecord, job_id: str) -> None:
        fields = [*job.plan.audio, *(() if job.plan.background_file is None else ("background",))]
        fields += [field for field in ("subtitles", "diarization") if field in job.spec.job_files]
        copies = {job_file_key(job.id, field): job_file_key(job_id, field) for field in fields}
        cues, copied_cues = job_cues_folder(job.id), job_cues_folder(job_id)
        if not all(self._files.has(key) for key in (*copies, *map(source_key, job.uploaded_avatar_keys))):
            raise NotFoundError(f"The files of job {job.id} are gone. Submit them again.")
        copies |= {f"{cues}/{name}": f"{copied_cues}/{name}" for name in self._files.stored.entries(cues)}
        self._files.stored.make_folder(segments_folder(job_id))
        self._files.stored.make_folder(copied_cues)
        for key, copy in copies.items():
            self._files.stored.copy(key, copy)

    def _store_again(self, job: JobRecord, job_id: str, changes: Mapping[str, object]) -> JobRecord:
        for key in job.uploaded_avatar_keys:
            self._table.update_avatar(key, last_used_at=utc_now())
        kept = {name: getattr(job, name) for name in _COPIED_FIELDS}
        if (parts := job.plan.clips) and (own := self._table.find_avatar(parts[OWN].key)) is not None:
            kept["avatar_key"] = store_composite(self._table, own, parts)  # its version may be a newer one
        new = {"id": job_id, "trace": trace_headers(), "created_at": utc_now()}
        return self._insert_row(JobRecord(**{**kept, **changes, **new}))

    def _engine(self, spec: JobSpec) -> str:
        return spec.engine or self._config.engine

    async def _probe(self, spec: JobSpec, context: RequestContext, video_key: str) -> _Probed:
        """What the inputs of a request are. An earlier attempt may have moved them, the video to avatar `video_key`."""
        call = CallContext(context.job_id)
        fields, moved_video = stored_fields(spec), source_key(video_key) if video_key else ""
        video = None if spec.video is None else await self._avatars.find_upload(spec.video, moved_video)
        info: VideoInfo | None = None
        seconds: dict[str, float] = {}
        with client_names(*spec.files):
            for field, file in spec.audio_files.items():
                audio = await self._avatars.find_upload(file, job_file_key(context.job_id, fields[field]))
                probed = await self._stages.probe(call, video, audio)
                assert probed.audio is not None
                seconds[fields[field]] = probed.audio.duration_seconds
                info, video = info or probed.video, None
            if video is not None:
                info = (await self._stages.probe(call, video, None)).video
        if spec.video is not None:
            assert info is not None
            own = AvatarClip(kind=None, key=video_key, created_at=utc_now())
            return _Probed(seconds, info, spec.video.sha256, None, {OWN: own})
        avatar = await self._table.run_in_thread(self._avatars.usable, spec.avatar_id or "", context.owner)
        parts = await self._table.run_in_thread(parts_of, self._table, avatar)
        return _Probed(seconds, await self._avatars.source_info(avatar), avatar.source_sha256, avatar.face, parts)

    async def _make_plan(
        self, spec: JobSpec, context: RequestContext, found: _Probed, face: str
    ) -> tuple[JobPlan, JobLength]:
        """Return the plan as far as it is known before texts are spoken; OptionError for what cannot be spoken."""
        own = spec.or_default(AvatarSettings())
        plan = first_plan(spec, own, self._engine(spec), face)
        plan = with_clips(plan, spec, found.parts, found.source)
        if plan.clips:
            plan = plan.model_copy(update={"seed": crc32(context.job_id.encode())})
        if spec.action is not None:
            checked_action(spec.action, plan.action_names)
        video = video_seconds(found.source, plan)
        fields = stored_fields(spec)
        audio = {fields[field]: file for field, file in spec.audio_files.items()}
        if spec.translate_to is not None:
            self._config.subtitles.check(translates=True)
            self._check_texts([])
            if not found.source.has_audio:
                raise OptionError("translate_to: the video has no sound.")
            plan = checked_plan(plan.with_turns(()), (), audio, found.audio_seconds, video)
            return plan, length_of(plan, video or 0.0, found.source)
        if spec.has_turns:
            content = await self._content(spec, context.job_id)
            sent, actions = sent_turns(spec, content, plan, found.parts)
            plan = plan.model_copy(update={"cue_actions": actions})
            turns, needs_faces = await self._turns(spec, context, found, plan, sent)
            turns = with_stored_fields(turns, fields)
            max_seconds = self._config.limits.max_audio_seconds
            plan = checked_plan(plan, turns, audio, found.audio_seconds, video, needs_faces, max_seconds)
            return plan, length_of(plan, 0.0, found.source)
        plan = checked_plan(plan, (), audio, found.audio_seconds, video)
        if spec.text is not None:
            text = acted_text(spec.text, plan, found.parts)
            self._check_texts([text])
            if spec.voice is not None:
                turn = PlannedTurn(start=0.0, text=text, voice=spec.voice)
                await with_voices(self._stages, CallContext(context.job_id), [turn], None)
            return plan, length_of(plan, expected_seconds(text), found.source)
        plan, seconds = with_audio_speed(plan, spec.max_audio_stretch, found.audio_seconds["audio"], video)
        return plan, length_of(plan, seconds, found.source)

    async def _turns(
        self, spec: JobSpec, context: RequestContext, found: _Probed, plan: JobPlan, turns: Sequence[PlannedTurn]
    ) -> tuple[Sequence[PlannedTurn], bool]:
        """Return the turns with faces and voices, and whether faces are missing: the people are not yet known."""
        if len(turns) > MAX_TURNS:
            raise OptionError(f"turns: expected at most {MAX_TURNS}, found {len(turns)}.")
        if texts := texts_of(turns):
            self._check_texts(texts)
            if spec.subtitles_output == "burnt":
                await asyncio.to_thread(check_fonts, texts)
            if spec.language is not None or any(turn.voice is not None for turn in turns):
                turns, _ = await with_voices(self._stages, CallContext(context.job_id), turns, spec.language)
        needs_faces = False
        if spec.turns is None:
            report = None
            if spec.avatar_id is not None and not plan.clips and any(turn.face is None for turn in turns):
                report = await self._people.known(found.sha256, context.owner)
                needs_faces = report is None
            if not needs_faces:
                main = None if plan.clips else MAIN_SPEAKER
                turns = await asyncio.to_thread(with_faces, turns, report, main)
        source = JobSource(found.sha256, found.face or plan.options.face, context.owner)
        named = await with_one_face_per_person(turns, source, self._people)
        return (turns if needs_faces else named), needs_faces

    async def _content(self, spec: JobSpec, job_id: str) -> bytes | None:
        """Return the content of the subtitles or the diarization, or its start."""
        file, field = (spec.subtitles, "subtitles") if spec.subtitles is not None else (spec.diarization, "diarization")
        if file is None:
            return None
        key = await self._avatars.find_upload(file, job_file_key(job_id, field))
        return await asyncio.to_thread(self._read, key)

    def _read(self, key: str) -> bytes:
        with self._files.stored.fetched(key) as path, path.open("rb") as file:
            return file.read(diarization.MAX_BYTES + 1)

    async def _store_inputs(
        self, spec: JobSpec, context: RequestContext, plan: JobPlan, length: JobLength, source: VideoInfo
    ) -> JobRecord:
        """Move the uploads, then insert the row; safe to repeat after an interruption."""
        face = plan.options.face
        is_new_source = False
        if spec.video is not None:
            key = key_of(spec.video.sha256, face, context.owner)
            is_new_source = await asyncio.to_thread(self._avatars.move_source, spec.video, spec.face_image, key)
            if is_new_source:
                num_bytes = spec.video.num_bytes + (0 if spec.face_image is None else spec.face_image.num_bytes)
                self._admission.count_stored(context.owner, num_bytes)
        await asyncio.to_thread(self._move_files_of_job, spec, context.job_id, plan)
        avatar = await self._table.run_in_thread(self._store_source, spec, context.owner, face, source, is_new_source)
        keys = await self._avatars.store_faces(avatar, plan.turns, context.owner, source)
        key = await self._table.run_in_thread(self._played, plan, avatar)
        return await self._table.run_in_thread(self._store, spec, context, plan, length, avatar, key, keys)

    def _played(self, plan: JobPlan, avatar: AvatarRecord) -> str:
        """Return the key of what a job plays: its avatar, or a composite."""
        if not plan.clips:
            return avatar.key
        if any(self._table.find_avatar(part.key) is None for part in plan.clips.values()):
            raise StateError(f"A clip of avatar {avatar.id} was deleted meanwhile. Submit the job again.")
        return store_composite(self._table, avatar, plan.clips)

    def _settings(self, spec: JobSpec, owner: str | None) -> AvatarSettings:
        """The movement and background of a job: what it sets, and the settings of its avatar for the rest."""
        if spec.avatar_id is None:
            return spec.or_default(AvatarSettings())
        default = self._avatars.usable(spec.avatar_id, owner).settings
        scales_movement = self._engines.scales_movement(self._engine(spec))
        return spec.or_default(default.usable(scales_movement=scales_movement, background=spec.background_file is None))

    def _move_files_of_job(self, spec: JobSpec, job_id: str, plan: JobPlan) -> None:
        self._files.stored.make_folder(segments_folder(job_id))
        fields = stored_fields(spec)
        for field, file in spec.job_files.items():
            if field != "background" or plan.options.background_id is None:
                self._files.take_upload(file.key, job_file_key(job_id, fields.get(field, field)))
        if (file_id := plan.options.background_id) is not None:
            self._files.stored.copy(background_source_key(file_id), job_file_key(job_id, "background"))

    def _store_source(
        self, spec: JobSpec, owner: str | None, face: str, info: VideoInfo, is_new_source: bool
    ) -> AvatarRecord:
        """Return the avatar of a job; insert its row if its source was sent."""
        if spec.video is None:
            return self._avatars.usable(spec.avatar_id or "", owner)
        source = Source(spec.video.sha256, spec.video.label, info)
        return self._avatars.store(source, face, owner, is_new=is_new_source)

    def _store(
        self,
        spec: JobSpec,
        context: RequestContext,
        plan: JobPlan,
        length: JobLength,
        avatar: AvatarRecord,
        key: str,
        turn_avatar_keys: dict[str, str],
    ) -> JobRecord:
        """Insert the row of a job whose files have been moved."""
        job = JobRecord(
            id=context.job_id,
            owner=context.owner,
            priority=context.priority,
            idempotency_key=context.idempotency_key,
            request_digest=context.request_digest,
            base_url=context.base_url,
            callback_url=spec.callback_url,
            metadata=spec.metadata,
            engine=plan.options.engine,
            format=plan.options.format,
            audio_label=speech_label(spec),
            source_label=avatar.label if spec.video is None else spec.video.label,
            upload_bytes=sum(file.num_bytes for file in spec.files),
            avatar_key=key,
            turn_avatar_keys=turn_avatar_keys,
            **length._asdict(),
            spec=spec,
            plan=plan,
            trace=trace_headers(),
            created_at=utc_now(),
        )
        inserted = self._insert_row(job)
        self._admission.release(context.admission_id)  # so that limits count either the reservation or the job
        return inserted

    def _insert_row(self, job: JobRecord) -> JobRecord:
        """Insert a job, with the size of its files.

        It gets a watermark if its plan is complete, otherwise once its texts are spoken.
        """
        num_bytes = sum(file.num_bytes for file in job.spec.job_files.values())
        job = job.model_copy(update={"stored_bytes": num_bytes})
        needs_watermark = self._config.labels.invisible and job.plan.is_complete and job.watermark_id is None
        return self._table.insert_job(job.with_watermark() if needs_watermark else job)

    def _find_duplicate(self, context: RequestContext, disk_bytes: int) -> JobRecord | None:
        """The job of the same idempotency key, which may have arrived at another Ingress in the meantime.

        Raises:
            StorageFullError: The disk would not hold a new job.
        """
        self._admission.check_disk(disk_bytes)
        if context.idempotency_key is None:
            return None
        return self._table.find_job(context.owner, context.idempotency_key)

    async def _check_background(self, spec: JobSpec, job_id: str) -> None:
        """Refuse a background file that is neither a picture nor a video."""
        if spec.background_file is not None:
            kept = await self._avatars.find_upload(spec.background_file, job_file_key(job_id, "background"))
            with client_names(spec.background_file):
                await self._stages.probe(CallContext(job_id), kept, None)
