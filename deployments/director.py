"""Director: accepts jobs, runs a bounded number of them, and answers for every one; its state is the job table."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from config import PipelineConfig
from deployments.job_run import JobRun, JobServices
from deployments.presenters import Presenters
from deployments.stages import Stages
from errors import CancelledJobError, CapacityError, InputError, LipwrightError, OptionError, StateError
from models.avatar import AVATAR_VERSION
from models.engine import engine_names
from models.face_choice import recorded_face
from storage.file_store import FileStore
from storage.job_table import JobTable
from storage.records import (
    AvatarRecord,
    AvatarRequest,
    AvatarStatus,
    ErrorRecord,
    JobRecord,
    JobStatus,
    Stage,
    SubmitRequest,
    UploadedFile,
    avatar_key,
    new_id,
    utc_now,
)

logger = logging.getLogger("ray.serve")


@serve.deployment
class Director:
    """One replica. Implements `deployments.job_service.JobService`."""

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits a coroutine constructor
        self,
        config: PipelineConfig,
        audio_features: DeploymentHandle[Any],
        landmark_generator: DeploymentHandle[Any],
        studio: DeploymentHandle[Any],
    ) -> None:
        """Open the table and take up every unfinished job."""
        self._config = config
        self._files = FileStore(config.data_dir)
        self._table = JobTable(self._files.table_path, self._announce)
        self._changed: dict[str, asyncio.Event] = {}
        self._stages = Stages(config, audio_features, landmark_generator, studio)
        self._presenters = Presenters(config, self._stages, self._table, self._files)
        self._services = JobServices(config, self._stages, self._presenters, self._table, self._files)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._analyses: set[asyncio.Task[None]] = set()
        self._files.sweep_uploads()
        for job in self._table.unfinished_jobs():
            self._table.update_job(job.id, status=JobStatus.QUEUED, stage=Stage.QUEUED)
        for avatar in self._table.list_avatars():
            if avatar.status is AvatarStatus.ANALYSING:
                self._analyse(avatar.key)
        self._start_jobs()

    async def admit(self) -> None:
        """Say whether one more job would be accepted now.

        Raises:
            CapacityError: The queue is full.
        """
        num_queued = self._table.count_jobs(JobStatus.QUEUED)
        limit = self._config.jobs.max_queued_jobs
        if num_queued >= limit:
            raise CapacityError(f"The queue is full: expected fewer than {limit} waiting jobs, found {num_queued}.", 5)

    async def submit(self, request: SubmitRequest) -> JobRecord:
        """Check the inputs, store the job for good and return its row.

        Raises:
            InputError: An input or an option cannot be used.
            NotFoundError: There is no such avatar.
            CapacityError: The queue is full.
        """
        await self.admit()
        if request.options.engine not in engine_names():
            raise OptionError(f"engine: expected one of {', '.join(engine_names())}, found {request.options.engine!r}")
        face = recorded_face(request.options.face, _sha256(request.face_image))
        audio = self._files.upload_path(request.audio.key)
        video = self._files.upload_path(request.video.key) if request.video is not None else None
        with _client_names(request.audio, request.video):
            await self._stages.probe(video, audio)
        await self._check_picture(request.face_image)
        if request.video is not None:
            key = self._keep_source(request.video, (face, request.face_image), request.owner, pinned=False).key
        else:
            key = self._speakable(request.avatar_id or "").key
        job_id = new_id()
        self._files.job_dir(job_id)
        self._files.take_upload(request.audio.key, self._files.audio_path(job_id))
        job = self._table.insert_job(
            JobRecord(
                id=job_id,
                options=request.options.model_copy(update={"face": face}),
                audio=request.audio,
                video=request.video,
                avatar_key=key,
                owner=request.owner,
                idempotency_key=request.idempotency_key,
                callback_url=request.callback_url,
                priority=request.priority,
                created_at=utc_now(),
            )
        )
        self._start_jobs()
        return self._table.get_job(job.id)

    async def get_job(self, job_id: str) -> JobRecord:
        """Return one job, or raise NotFoundError."""
        return self._table.get_job(job_id)

    async def list_jobs(self, limit: int, status: JobStatus | None) -> list[JobRecord]:
        """Return the newest jobs, optionally of one status."""
        return self._table.list_jobs(limit, status)

    async def wait_job(self, job_id: str, version: int, timeout_s: float) -> JobRecord:
        """Return the job as soon as it is newer than `version` or final, or as it is after `timeout_s`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            job = self._table.get_job(job_id)
            left_s = deadline - loop.time()
            if job.version > version or job.status.is_final or left_s <= 0:
                return job
            changed = self._changed.setdefault(job_id, asyncio.Event())
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), left_s)

    async def cancel_job(self, job_id: str) -> JobRecord:
        """Cancel a job that is not finished; a finished one is returned as it is."""
        error = ErrorRecord.of(CancelledJobError("The job was cancelled."))
        job = self._table.update_job(job_id, status=JobStatus.CANCELLED, error=error)
        if (task := self._running.get(job_id)) is not None:
            task.cancel()
        elif job.status is JobStatus.CANCELLED:
            self._files.delete_job(job_id)
        return job

    async def create_avatar(self, request: AvatarRequest) -> AvatarRecord:
        """Keep a presenter and analyse it in the background.

        Raises:
            InputError: The video or the face choice cannot be used.
        """
        face = recorded_face(request.face, _sha256(request.face_image))
        with _client_names(request.video):
            await self._stages.probe(self._files.upload_path(request.video.key), None)
        await self._check_picture(request.face_image)
        avatar = self._keep_source(request.video, (face, request.face_image), request.owner, pinned=True)
        if avatar.status is not AvatarStatus.READY:
            self._analyse(avatar.key)
        return avatar

    async def get_avatar(self, avatar_id: str) -> AvatarRecord:
        """Return one presenter, or raise NotFoundError."""
        return self._table.get_avatar(avatar_id)

    async def list_avatars(self) -> list[AvatarRecord]:
        """Return the presenters that callers asked to keep."""
        return self._table.list_avatars()

    async def delete_avatar(self, avatar_id: str) -> None:
        """Forget a presenter.

        Raises:
            StateError: An unfinished job still needs it.
        """
        avatar = self._table.get_avatar(avatar_id)
        users = [job.id for job in self._table.unfinished_jobs() if job.avatar_key == avatar.key]
        if users:
            raise StateError(f"Avatar {avatar_id} is needed by {len(users)} unfinished job(s), first {users[0]}.")
        self._table.delete_avatar(avatar.key)
        self._files.delete_avatar(avatar.key)

    async def ready(self) -> bool:
        """True when every stage behind answers."""
        return await self._stages.ready()

    def _announce(self, job_id: str) -> None:
        """Wake everybody who waits for a change of this job."""
        if (changed := self._changed.pop(job_id, None)) is not None:
            changed.set()

    def _speakable(self, avatar_id: str) -> AvatarRecord:
        avatar = self._table.get_avatar(avatar_id)
        if avatar.status is AvatarStatus.FAILED:
            reason = avatar.error.message if avatar.error is not None else "unknown"
            raise StateError(f"Avatar {avatar_id} cannot speak, its analysis failed: {reason}")
        return avatar

    async def _check_picture(self, picture: UploadedFile | None) -> None:
        """Refuse a reference picture that cannot be opened; whether it shows a face, the analysis finds out."""
        if picture is not None:
            with _client_names(picture):
                await self._stages.probe(self._files.upload_path(picture.key), None)

    def _keep_source(
        self, video: UploadedFile, whom: tuple[str, UploadedFile | None], owner: str | None, *, pinned: bool
    ) -> AvatarRecord:
        """Move uploads into the avatar of their content; a known source is dropped in favour of the kept one."""
        face, picture = whom
        key = avatar_key(video.sha256, face, AVATAR_VERSION)
        known = self._table.find_avatar(key)
        path = self._files.avatar_source_path(key)
        if known is not None and path.is_file():
            for upload in (video, picture):
                if upload is not None:
                    self._files.delete_upload(upload.key)
            return self._table.update_avatar(key, pinned=known.pinned or pinned, last_used_at=utc_now())
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
                owner=owner,
                label=video.label,
                face=face,
                source_sha256=video.sha256,
                created_at=now,
                last_used_at=now,
            )
        )

    def _start_jobs(self) -> None:
        """Start waiting jobs in order while there is room."""
        for job in self._table.queued_jobs():
            if len(self._running) >= self._config.jobs.max_running_jobs:
                return
            if job.id not in self._running:
                started = self._table.update_job(job.id, status=JobStatus.RUNNING, attempts=job.attempts + 1)
                self._running[job.id] = asyncio.create_task(self._run(started))

    async def _run(self, job: JobRecord) -> None:
        """Run one job to its end, whatever that is; the only place where a job fails."""
        try:
            await JobRun(self._services, job).run()
            self._table.update_job(job.id, status=JobStatus.SUCCEEDED, stage=Stage.DONE, progress=1.0)
        except asyncio.CancelledError:
            logger.info("job %s stopped", job.id)
        except Exception as error:
            cause = _first_cause(error)
            if not isinstance(cause, LipwrightError):
                logger.exception("job %s failed", job.id, exc_info=error)
                cause = LipwrightError(f"internal error: {type(cause).__name__}: {cause}")
            self._table.update_job(job.id, status=JobStatus.FAILED, error=ErrorRecord.of(cause))
            self._files.delete_segments(job.id)
        finally:
            self._running.pop(job.id, None)
            # Not every stop is the owner's: a service that shuts down leaves its jobs to be taken up again.
            if self._table.get_job(job.id).status is JobStatus.CANCELLED:
                self._files.delete_job(job.id)
            self._start_jobs()

    def _analyse(self, key: str) -> None:
        async def analyse() -> None:
            try:
                await self._presenters.ensure(key, lambda share: None)
            except LipwrightError as error:
                logger.warning("analysis of %s failed: %s", key, error)

        task = asyncio.create_task(analyse())
        self._analyses.add(task)
        task.add_done_callback(self._analyses.discard)


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


def _first_cause(error: BaseException) -> BaseException:
    """Return the first real error inside the groups that parallel segments raise."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
