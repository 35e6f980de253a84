"""The API over a service in memory, on a real socket: what the ingress and command line tests talk to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from pydantic import BaseModel
from starlette.types import ASGIApp

from lipwright.api.app import make_app
from lipwright.api.body_window import ProxyWindow
from lipwright.config import LiveConfig, MediaLimits, NetworkConfig, PipelineConfig, TtsConfig
from lipwright.errors import CapacityError, LipwrightError, NotFoundError, OptionError, StateError
from lipwright.jobs import planning, requests
from lipwright.jobs.admission import Admission, AdmitRequest
from lipwright.jobs.drafts import edited
from lipwright.jobs.messages import PeopleScan
from lipwright.jobs.model.avatar_settings import AvatarSettings, changed_settings
from lipwright.jobs.model.base import ErrorRecord, new_id, utc_now
from lipwright.jobs.model.browser_token import TokenGrant
from lipwright.jobs.model.clip import AvatarClip
from lipwright.jobs.model.edits import Revision, TurnEdit
from lipwright.jobs.model.plan import JobOptions, JobPlan
from lipwright.jobs.model.record import JobPage, JobQuery, JobRecord, JobStage, JobStatus
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.model.turns import PlannedTurn
from lipwright.jobs.model.usage import UsageRow
from lipwright.jobs.requests import (
    AvatarChangeForm,
    AvatarForm,
    BackgroundForm,
    ClipForm,
    RequestContext,
    UploadContext,
)
from lipwright.jobs.revisions import checked_spec
from lipwright.jobs.turns import check_overlaps
from lipwright.jobs.usage import StoredBytes, usage_rows
from lipwright.rendering.live_chunk import LiveService
from lipwright.speech.service import tts_service
from lipwright.storage.backgrounds import BackgroundRecord, BackgroundStore
from lipwright.storage.file_keys import job_cues_folder, job_file_key, job_folder, result_key, source_key, upload_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.files import StoredFiles
from lipwright.storage.job_table import JobTable
from lipwright.storage.row_codec import AvatarRecord, AvatarStatus, SegmentRecord, avatar_key
from lipwright.storage.sqlite.database import Database
from lipwright.storage.token_sessions import TokenSessions
from tests.unit.job_records import avatar_record

VIDEO_BYTES = bytes(range(256)) * 40
MAX_UPLOAD_BYTES = 300_000
GRANT_BYTES = 100_000  # of a body, before it asks for more


@dataclass(frozen=True)
class SentJob:
    """A job as it reaches the service: its fields are those of the spec and the context."""

    spec: JobSpec
    context: RequestContext
    plan: JobPlan

    @property
    def options(self) -> JobOptions:
        return self.plan.options

    @property
    def job_id(self) -> str:
        return self.context.job_id

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # pickle asks for some of them before there are attributes
            raise AttributeError(name)
        return getattr(self.context if name in RequestContext.model_fields else self.spec, name)


class MemoryService:
    """A `JobService` whose jobs are moved on by the test, through `finish`, `fail` and `update`."""

    def __init__(self, root: Path, stored: StoredFiles | None = None) -> None:
        self.files = FileStore(root, stored)
        self.table = JobTable(Database(self.files.table_path))
        self.requests: list[SentJob] = []
        self.asked: list[AdmitRequest] = []
        self.num_refusals = 0
        self.refusals: list[LipwrightError] = []  # of the next submissions
        self.places: set[str] = set()  # reserved for request bodies
        self.num_waits = 0
        self.is_full = False
        self.is_ready = True
        self.is_broken = False
        self.report: dict[str, Any] | None = None  # of the jobs that are finished from now on
        self.outcome: LipwrightError | str | None = None  # what happens to a job right after its submission
        self.looked_at: LipwrightError | str | None = None  # and to an avatar: an error, or "face"
        self.edits: list[TurnEdit] = []
        self.revisions: list[Revision] = []
        self.scans: list[PeopleScan] = []  # what one request after another for the people of an avatar gets

    async def admit(self, request: AdmitRequest) -> Admission:
        self.asked.append(request)
        if self.is_full or self.num_refusals > 0:
            self.num_refusals -= 1
            raise CapacityError("The queue is full.", 7.0 if self.is_full else 1.0)
        key, num_bytes = request.idempotency_key, request.num_bytes or request.max_bytes
        job = self.table.find_job(request.owner, key) if key is not None else None
        granted = 0 if job else GRANT_BYTES
        place = Admission(id=new_id(), job=job, max_bytes=num_bytes, timeout_s=60, granted_bytes=granted)
        if job is None:
            self.places.add(place.id)
        return place

    async def grow_reservation(self, request: AdmitRequest, admission_id: str) -> Admission:
        assert admission_id in self.places
        return Admission(id=admission_id, max_bytes=request.max_bytes, timeout_s=60, granted_bytes=GRANT_BYTES)

    async def extend(self, admission_id: str, num_bytes: int) -> int:
        assert admission_id in self.places
        return num_bytes + GRANT_BYTES

    async def release(self, admission_id: str) -> None:
        self.places.discard(admission_id)

    async def submit(self, spec: JobSpec, context: RequestContext) -> JobRecord:
        if self.refusals:
            raise self.refusals.pop(0)
        if spec.engine == "nonesuch":
            raise OptionError("engine: expected warp, found 'nonesuch'.")
        self.places.discard(context.admission_id or "")
        job_id, fields = context.job_id, planning.stored_fields(spec)
        plan = planning.first_plan(spec, spec.or_default(AvatarSettings()), spec.engine or "warp", spec.face)
        turns = planning.sent_turns(spec, self._content(spec), plan, {})[0] if spec.has_turns else None
        for field, file in spec.job_files.items():
            self.files.take_upload(file.key, job_file_key(job_id, fields.get(field, field)))
        audio = {fields[field]: file for field, file in spec.audio_files.items()}
        key = avatar_key(spec.video.sha256, spec.face, "1") if spec.video else "0" * 32
        plan = plan.model_copy(update={"audio": audio, "background_file": spec.background_file})
        if turns is not None:
            plan = plan.with_turns(planning.with_stored_fields(turns, fields))
        sent = context.model_dump(exclude={"job_id", "admission_id"})
        sent |= {"metadata": spec.metadata, "callback_url": spec.callback_url, "avatar_key": key}
        row = JobRecord(
            **{"id": job_id, "spec": spec, "plan": plan, "engine": plan.options.engine, "format": plan.options.format},
            audio_label=planning.speech_label(spec),
            upload_bytes=sum(file.num_bytes for file in spec.files),
            source_label=spec.video.label if spec.video else "",
            created_at=utc_now(),
            **sent,
        )
        job = self.table.insert_job(row)
        self.requests.append(SentJob(spec, context, plan))  # who sees it here finds its job
        if isinstance(self.outcome, LipwrightError):
            return self.fail(job_id, self.outcome)
        return self.finish(job_id) if self.outcome == "video" else job

    def _content(self, spec: JobSpec) -> bytes | None:
        file = spec.subtitles or spec.diarization
        if file is None:
            return None
        with self.files.stored.fetched(upload_key(file.key)) as path:
            return path.read_bytes()

    async def get_job(self, job_id: str, owner: str | None) -> JobRecord:
        if self.is_broken:
            raise RuntimeError("secret of the inside")
        return self.table.get_job(job_id, owner)

    async def find_job(self, idempotency_key: str, owner: str | None) -> JobRecord | None:
        return self.table.find_job(owner, idempotency_key)

    async def release_idempotency_key(self, job_id: str, owner: str | None) -> None:
        self.table.release_idempotency_key(self.table.get_job(job_id, owner).id)

    async def list_jobs(self, query: JobQuery) -> JobPage:
        return self.table.list_jobs(query)

    async def wait_job(self, job_id: str, version: int, timeout_s: float) -> JobRecord:
        self.num_waits += 1
        deadline = asyncio.get_running_loop().time() + timeout_s
        while (job := self.table.get_job(job_id)).version <= version:
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.01)
        return job

    async def cancel_job(self, job_id: str, owner: str | None) -> JobRecord:
        self.table.get_job(job_id, owner)
        self.table.update_job(job_id, status=JobStatus.CANCELLED)
        return self.table.get_job(job_id)

    async def retry_job(self, job_id: str, new_id: str, owner: str | None) -> JobRecord:
        job = self.table.get_job(job_id, owner)
        self.files.stored.make_folder(job_folder(new_id))
        self.files.stored.copy(job_file_key(job_id), job_file_key(new_id))
        again = {"id": new_id, "status": JobStatus.QUEUED, "error": None, "idempotency_key": None, "finished_at": None}
        return self.table.insert_job(job.model_copy(update=again))

    async def revise_job(self, job_id: str, new_id: str, revision: Revision, owner: str | None) -> JobRecord:
        job = self.table.get_job(job_id, owner)
        self.revisions.append(revision)
        spec = revision.settings.revised_spec(checked_spec(job))
        plan = revision.settings.revised_plan(job.plan)
        kept = {"owner", "engine", "avatar_key", "metadata", "format", "watermark_id"}
        fields = job.model_dump(include=kept) | {"id": new_id, "revision_of": job.id, "created_at": utc_now()}
        return self.table.insert_job(JobRecord(**fields, spec=spec, plan=plan))

    async def edit_turns(self, job_id: str, edit: TurnEdit, owner: str | None) -> JobRecord:
        job = self.table.get_job(job_id, owner)
        if job.status is not JobStatus.REVIEW:
            raise StateError(f"The turns of job {job_id} cannot be changed: it is {job.status}, not in review.")
        if job.version != edit.version:
            raise StateError(f"Job {job_id} has changed in the meantime. Read its turns again.")
        turns = edited(job.plan.turns, edit.number, edit.edit)
        check_overlaps(turns)
        self.edits.append(edit)
        return self._drafted(job, turns)

    def _drafted(self, job: JobRecord, turns: Iterable[PlannedTurn], **fields: Any) -> JobRecord:
        spoken = [self._spoken(job.id, turn) for turn in sorted(turns, key=lambda turn: turn.start)]
        self.table.update_job(job.id, plan=self.fitted(job.plan.with_turns(spoken)), **fields)
        return self.table.get_job(job.id)

    def fitted(self, plan: JobPlan) -> JobPlan:
        """Return a plan with the speeds and cuts of its texts."""
        return plan

    def spoken_text(self, text: str) -> tuple[bytes, float]:
        """Return the sound of a text, here the text itself after the name of a WAV file, and its length."""
        return b"RIFF    WAVEfmt " + text.encode(), planning.expected_seconds(text)

    def _spoken(self, job_id: str, turn: PlannedTurn) -> PlannedTurn:
        if turn.text is None or turn.natural_seconds is not None:
            return turn
        cue, (sound, seconds) = new_id(), self.spoken_text(turn.text)
        self.files.stored.make_folder(job_cues_folder(job_id))
        self.files.stored.put(f"{job_cues_folder(job_id)}/{cue}", sound)
        return turn.model_copy(update={"natural_seconds": seconds, "cue": cue})

    async def approve_job(self, job_id: str, owner: str | None) -> JobRecord:
        job = self.table.get_job(job_id, owner)
        if job.status is JobStatus.REVIEW:
            plan = job.plan.model_copy(update={"needs_review": False})
            self.table.update_job(job_id, plan=plan, status=JobStatus.QUEUED, stage=JobStage.QUEUED)
        elif not job.spec.review or job.plan.needs_review:
            raise StateError(f"Job {job_id} cannot be approved: it is {job.status}, not in review.")
        return self.table.get_job(job_id)

    async def delete_job(self, job_id: str, owner: str | None) -> None:
        self.files.delete_job(self.table.get_job(job_id, owner).id)
        self.table.delete_job(job_id)

    async def finished_segments(self, job_id: str, owner: str | None) -> list[SegmentRecord]:
        return self.table.finished_segments(self.table.get_job(job_id, owner).id)

    async def create_avatar(self, form: AvatarForm, context: UploadContext) -> AvatarRecord:
        key = avatar_key(form.video.sha256, form.face, "1")
        self.files.take_upload(form.video.key, source_key(key))
        error = ErrorRecord.of(self.looked_at) if isinstance(self.looked_at, LipwrightError) else None
        seen = AvatarStatus.READY if self.looked_at == "face" else AvatarStatus.ANALYSING
        settings = changed_settings(AvatarSettings(), self._stored(form, context.owner))
        source = {"label": form.video.label, "source_sha256": form.video.sha256, "face": form.face}
        fields = {"pinned": form.keep, "owner": context.owner, "settings": settings, "analyse_on_create": True}
        status = AvatarStatus.FAILED if error is not None else seen
        return self.table.put_avatar(avatar_record(key, status=status, error=error, **source, **fields))

    def _stored(self, form: AvatarForm | AvatarChangeForm, owner: str | None) -> AvatarSettings:
        if form.background_file is None:
            return form.avatar_settings
        record = BackgroundStore(self.files).add(owner, form.background_file, {})
        return form.avatar_settings.model_copy(update={"background_id": record.id})

    async def change_avatar(self, avatar_id: str, form: AvatarChangeForm, context: UploadContext) -> AvatarRecord:
        avatar = self.table.get_avatar(avatar_id, context.owner)
        settings = changed_settings(avatar.settings, self._stored(form, context.owner))
        return self.table.update_avatar(avatar.key, settings=settings)

    async def get_avatar(self, avatar_id: str, owner: str | None) -> AvatarRecord:
        return self.table.get_avatar(avatar_id, owner)

    async def add_clip(self, avatar_id: str, form: ClipForm, context: UploadContext) -> AvatarRecord:
        own = self.table.get_avatar(avatar_id, context.owner)
        if form.name in own.clips:
            raise StateError("has a clip of that name already")
        avatar = await self.create_avatar(AvatarForm(video=form.video, keep=False), context)
        row = self.table.update_avatar(avatar.key, belongs_to=own.key)
        clip = AvatarClip(kind=form.kind, key=row.key, created_at=row.created_at)
        return self.table.update_avatar(own.key, clips={**own.clips, form.name: clip})

    async def clips(self, keys: Sequence[str]) -> dict[str, AvatarRecord]:
        return self.table.clips_of(*keys)

    async def delete_clip(self, avatar_id: str, name: str, owner: str | None) -> None:
        own = self.table.get_avatar(avatar_id, owner)
        if name not in own.clips:
            raise NotFoundError("has no clip of that name")
        self.table.update_avatar(own.key, clips={key: clip for key, clip in own.clips.items() if key != name})

    async def list_avatars(self, owner: str | None) -> list[AvatarRecord]:
        return self.table.list_avatars(owner=owner)

    async def delete_avatar(self, avatar_id: str, owner: str | None) -> None:
        self.table.delete_avatar(self.table.get_avatar(avatar_id, owner).key)

    async def people(self, avatar_id: str, owner: str | None) -> PeopleScan:
        self.table.get_avatar(avatar_id, owner)
        return self.scans.pop(0) if len(self.scans) > 1 else self.scans[0]

    async def create_background(self, form: BackgroundForm, context: UploadContext) -> BackgroundRecord:
        if isinstance(self.looked_at, LipwrightError):
            raise self.looked_at
        info = {"width": 64, "height": 48, "is_still": True, "duration_seconds": 0.04}
        return BackgroundStore(self.files).add(context.owner, form.background_file, info)

    async def delete_background(self, file_id: str, owner: str | None) -> None:
        BackgroundStore(self.files).delete(file_id, owner)

    async def usage(self, first: date | None, last: date | None, owner: str | None) -> list[UsageRow]:
        return usage_rows(self.table, StoredBytes(self.table, self.files), first, last, owner)

    async def start_token_session(self, session_id: str, grant: TokenGrant) -> int:
        return TokenSessions(self.table.database).start(session_id, grant)

    async def end_token_session(self, session_id: str, seconds: int) -> None:
        TokenSessions(self.table.database).end(session_id, seconds)

    async def status(self) -> requests.ServiceStatus:
        num_queued, num_running = (self.table.count_jobs(each) for each in (JobStatus.QUEUED, JobStatus.RUNNING))
        counts = {"num_queued": num_queued, "num_arriving": len(self.places), "num_running": num_running}
        queue = requests.QueueStatus(**counts, max_queued=8, max_running=1, num_bytes=0, max_bytes=8)
        rate = {"estimated_wait_s": 0, "seconds_per_second": 1, "is_rate_measured": False}
        return requests.ServiceStatus.model_validate({"queue": queue, **rate, "free_disk_bytes": 9, "replicas": {}})

    async def ready(self) -> bool:
        return self.is_ready

    def finish(self, job_id: str) -> JobRecord:
        self.files.stored.make_folder(job_folder(job_id))
        suffix = self.table.get_job(job_id, None).options.format
        self.files.stored.put(result_key(job_id, suffix), VIDEO_BYTES)
        self.table.update_job(job_id, status=JobStatus.RUNNING, stage=JobStage.RENDERING, num_frames=50, progress=0.5)
        done = {"status": JobStatus.SUCCEEDED, "stage": JobStage.DONE, "num_frames_done": 50, "progress": 1.0}
        self.table.update_job(job_id, **done, report=self.report)
        return self.table.get_job(job_id)

    def review(self, job_id: str) -> JobRecord:
        """Speak the texts of a job, which then waits for review."""
        job = self.table.get_job(job_id)
        num_cues = sum(turn.text is not None for turn in job.plan.turns)
        fields = {"stage": JobStage.SPEAKING, "num_cues": num_cues, "num_cues_done": num_cues}
        return self._drafted(job, job.plan.turns, status=JobStatus.REVIEW, **fields)

    def fail(self, job_id: str, error: LipwrightError) -> JobRecord:
        self.table.update_job(job_id, status=JobStatus.FAILED, error=ErrorRecord.of(error))
        return self.table.get_job(job_id)

    def uploads(self) -> list[Path]:
        return sorted((self.files.table_path.parent / "uploads").iterdir())


@contextmanager
def serving(
    service: MemoryService,
    network: NetworkConfig | None = None,
    live: LiveService | None = None,
    live_config: LiveConfig | None = None,
    **sections: BaseModel,
) -> Iterator[str]:
    """Serve the API of `service` on loopback by uvicorn in a thread; gives the base URL.

    `sections` are those of the config.
    """
    defaults = {
        "limits": MediaLimits(max_upload_bytes=MAX_UPLOAD_BYTES),
        "network": network or NetworkConfig(),
        "tts": TtsConfig(use_builtin=False),
        "live": live_config or LiveConfig(),
    }
    config = PipelineConfig.model_validate(defaults | sections)
    app = make_app(service, service.files, config, tts_service(config.tts, service.files), live)
    try:
        with running(ProxyWindow(app)) as url:  # as behind Serve's proxy
            yield url
    finally:
        service.table.close()


@contextmanager
def running(app: ASGIApp, port: int = 0) -> Iterator[str]:
    """Run an app on loopback by uvicorn in a thread; gives its URL."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not (server.started and server.servers):
            assert thread.is_alive(), "uvicorn did not start"
            thread.join(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(60)


@contextmanager
def api_client(service: MemoryService, network: NetworkConfig | None = None, **settings: Any) -> Iterator[httpx.Client]:
    """Serve the API of `service` as `serving` does; gives a client of it."""
    with (
        serving(service, network, **settings) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False, verify=False) as client,
    ):
        yield client
