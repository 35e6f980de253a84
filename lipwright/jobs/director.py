"""The logic of the Director without Ray: accepts jobs, runs a bounded number of them, and finishes every one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import date
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from pydantic import BaseModel

from lipwright.config import PipelineConfig
from lipwright.errors import LipwrightError, NotFoundError, StateError
from lipwright.jobs.admission import Admission, AdmissionController, AdmitRequest
from lipwright.jobs.disk_space import DiskSpace
from lipwright.jobs.drafts import Drafts
from lipwright.jobs.housekeeping import Housekeeping
from lipwright.jobs.key_limits import KeyPolicies, LimitChecks
from lipwright.jobs.leadership import LeaderElection
from lipwright.jobs.messages import PeopleScan, ResolvedAvatar
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.jobs.model.browser_token import TokenGrant
from lipwright.jobs.model.edits import Revision, TurnEdit
from lipwright.jobs.model.record import JobPage, JobQuery, JobRecord
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.model.usage import LiveUsage, UsageRow
from lipwright.jobs.ports import Stages
from lipwright.jobs.requests import (
    AvatarChangeForm,
    AvatarForm,
    BackgroundForm,
    ClipForm,
    RequestContext,
    ServiceStatus,
    UploadContext,
    service_status,
    upload_bytes,
)
from lipwright.jobs.revisions import Revisions
from lipwright.jobs.scheduler import JobScheduler
from lipwright.jobs.segments.kept import KeptSegments
from lipwright.jobs.segments.limiter import SegmentLimiter
from lipwright.jobs.services import JobServices
from lipwright.jobs.sources.analyses import AvatarAnalyses
from lipwright.jobs.sources.avatar_submission import AvatarSubmissions
from lipwright.jobs.sources.avatars import Avatars
from lipwright.jobs.sources.backgrounds import Backgrounds
from lipwright.jobs.sources.clips import Clips
from lipwright.jobs.sources.live_avatars import LiveAvatars
from lipwright.jobs.submission import Submissions
from lipwright.jobs.upkeep import ReplicaCounts, Upkeep
from lipwright.jobs.usage import StoredBytes, counted_compute, usage_rows
from lipwright.jobs.webhooks import Webhooks
from lipwright.storage.backgrounds import BackgroundRecord
from lipwright.storage.cues import open_cues
from lipwright.storage.row_codec import AvatarRecord, AvatarStatus, SegmentRecord
from lipwright.storage.state import open_keys, open_store, open_table, webhook_secrets
from lipwright.storage.token_sessions import TokenSessions
from lipwright.telemetry.log_context import CallContext, call_context, current_trace
from lipwright.telemetry.tracing import trace_of_id
from models.engines.catalog import EngineCatalog
from models.engines.protocol import EngineClass

logger = logging.getLogger(__name__)

_FOLLOWER_POLL_S = 1.0


class JobDirector:
    """Implements `lipwright.jobs.ports.JobService`, and what live sessions need of the Director.

    Its state is the job table; of the services that share one, one leads.

    `name` is a name of this service that sorts by its start time; `webhook_view` makes the body of a webhook of a job;
    `check_texts` raises OptionError for texts that no voice can speak.
    """

    def __init__(
        self,
        config: PipelineConfig,
        stages: Stages,
        name: str,
        replicas: ReplicaCounts,
        engines: Mapping[str, str | EngineClass],
        webhook_view: Callable[[JobRecord], dict[str, Any]],
        check_texts: Callable[[Sequence[str]], None] = lambda texts: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()  # of jobs that are waited for
        services = self._open_services(config, stages, engines, check_texts)
        self._submissions = Submissions(services, self._admission)
        self._election = LeaderElection(self._table, name, self._on_elected, self._on_leadership_lost)
        self._scheduler = JobScheduler(services, lambda: self._election.starts_work)
        self._drafts = Drafts(services, self._admission.check_approval)
        self._revisions = Revisions(services, self._submissions)
        self._replicas = replicas
        analysing = asyncio.Semaphore(config.jobs.max_running_jobs)
        self._live_avatars = LiveAvatars(self._avatars, self._backgrounds, services.engines, analysing)
        self._analyses = AvatarAnalyses(self._avatars, self._table, config.engine, analysing)
        self._kept_segments = KeptSegments(config.jobs.max_revision_bytes, self._table, self._files)
        self._space = DiskSpace(self._files, self._kept_segments, self._avatars, config.jobs.min_free_bytes)
        self._upkeep = Upkeep(
            self._scheduler, self._analyses, self._admission, self._limiter, self._table, self._space, replicas
        )
        self._housekeeping = Housekeeping(
            config.jobs,
            self._table,
            self._files,
            self._avatars,
            self._backgrounds,
            self._kept_segments,
            open_cues(config, self._files.stored),
        )
        secrets = webhook_secrets(config.state, config.data_dir)
        self._webhooks = Webhooks(config.network, self._table, secrets, webhook_view)
        self._loops: list[asyncio.Task[None]] = []

    def _open_services(
        self,
        config: PipelineConfig,
        stages: Stages,
        engines: Mapping[str, str | EngineClass],
        check_texts: Callable[[Sequence[str]], None],
    ) -> JobServices:
        """Open the files and the table, and make what works on them."""
        self._limits, self._stages = config.jobs, stages
        self._files = open_store(config)
        policies = KeyPolicies(open_keys(config.state, config.data_dir))
        self._table = open_table(config.state, self._files, self._announce, policies.weight_of)
        self._in_table = self._table.run_in_thread
        self._stored = StoredBytes(self._table, self._files)
        self._checks = LimitChecks(policies.limits_of, self._table, self._stored)
        self._token_sessions = TokenSessions(self._table.database)
        self._avatars = Avatars(config, stages, self._table, self._files)
        self._backgrounds = Backgrounds(config, stages, self._table, self._files)
        self._limiter = SegmentLimiter(config, policies.last_weight_of)
        self._admission = AdmissionController(
            config, self._table, self._files, limiter=self._limiter, checks=self._checks
        )
        self._avatar_submissions = AvatarSubmissions(
            stages, self._table, self._files, self._backgrounds, self._avatars.folder_lock
        )
        self._clips = Clips(stages, self._table, self._files, self._avatar_submissions)
        return JobServices(
            config,
            stages,
            self._avatars,
            self._table,
            self._files,
            self._avatar_submissions,
            self._limiter,
            EngineCatalog(config, engines=engines),
            check_texts,
        )

    async def start(self) -> None:
        """Lead, or wait until no other service does."""
        await self._election.start()
        self._election_loop = asyncio.create_task(self._election.run())

    async def _on_elected(self) -> None:
        """Start the periodic work, which also resumes unfinished jobs and analyses."""
        loops = (self._housekeeping.run(), self._webhooks.run(), self._upkeep.run())
        self._loops = [asyncio.create_task(loop) for loop in loops]

    async def _on_leadership_lost(self) -> None:
        """Stop all work, for another Director to resume."""
        for loop in self._loops:
            loop.cancel()
        self._loops = []
        self._analyses.stop()
        self._avatars.people.stop()
        await self._scheduler.stop_all()
        self._upkeep.report_no_load()

    async def stop(self, max_drain_s: float = 0.0) -> None:
        """Resign, and stop the election."""
        await self.resign(max_drain_s)
        self._election_loop.cancel()

    async def resign(self, max_drain_s: float = 0.0) -> None:
        """Step down permanently because this service ends.

        New work is rejected at once, and the segments in flight get `max_drain_s` seconds to end. Then the lease is
        released, so that another service need not wait for its end.
        """
        if max_drain_s > 0:
            self._election.drain()
            if not await self._limiter.drain(max_drain_s):
                logger.warning("segments are still rendered after %g s; they will be rendered again", max_drain_s)
        await self._election.stop()

    async def check(self) -> None:
        """Raise if another Director has taken over the table, its file is lost, or a background loop has ended."""
        if not self._table.database.is_shared:
            await self._in_table(self._table.database.check_claim)
        for loop in (self._election_loop, *self._loops):
            if loop.done():
                raise LipwrightError(
                    "A background loop of the Director ended; the Director is restarted."
                ) from loop.exception()

    async def admit(self, request: AdmitRequest) -> Admission:
        self._election.check()
        await self._in_table(self._table.database.check_claim)  # before reading a body that could not be stored
        await asyncio.to_thread(self._checks.measure, request.owner)
        return await self._space.retrying(self._in_table, self._admission.admit, request)

    async def grow_reservation(self, request: AdmitRequest, admission_id: str) -> Admission:
        return await self._space.retrying(self._in_table, self._admission.grow_reservation, request, admission_id)

    async def extend(self, admission_id: str, num_bytes: int) -> int:
        return await self._space.retrying(self._in_table, self._admission.extend, admission_id, num_bytes)

    async def release(self, admission_id: str) -> None:
        await self._in_table(self._admission.release, admission_id)

    async def submit(self, spec: JobSpec, context: RequestContext) -> JobRecord:
        with suppress(LookupError):
            return await self._in_table(self._table.get_job, context.job_id)
        self._election.check()
        call = CallContext(context.job_id, trace=current_trace() or trace_of_id(context.job_id))
        async with self._reservation(context.admission_id, context.owner, is_job=True):
            with call_context(call):
                job = await self._space.retrying(self._submissions.create_job, spec, context)
        await self._scheduler.start_waiting()
        return await self._in_table(self._table.get_job, job.id)

    async def get_job(self, job_id: str, owner: str | None) -> JobRecord:
        return await self._in_table(self._table.get_job, job_id, owner)

    async def find_job(self, idempotency_key: str, owner: str | None) -> JobRecord | None:
        return await self._in_table(self._table.find_job, owner, idempotency_key)

    async def release_idempotency_key(self, job_id: str, owner: str | None) -> None:
        job = await self.get_job(job_id, owner)
        await self._in_table(self._table.release_idempotency_key, job.id)

    async def list_jobs(self, query: JobQuery) -> JobPage:
        return await self._in_table(self._table.list_jobs, query)

    async def wait_job(self, job_id: str, version: int, timeout_s: float) -> JobRecord:
        deadline = self._loop.time() + timeout_s
        while True:
            changed = self._changed.setdefault(job_id, asyncio.Event())  # first, so that no change is missed
            job = await self._in_table(self._table.get_job, job_id)
            left_s = deadline - self._loop.time()
            if job.version > version or job.status.is_final or left_s <= 0:
                return job
            with suppress(TimeoutError):
                # Changes made by another service are not announced here, so poll.
                async with asyncio.timeout(left_s if self._election.is_leader else min(left_s, _FOLLOWER_POLL_S)):
                    await changed.wait()

    async def cancel_job(self, job_id: str, owner: str | None) -> JobRecord:
        job = await self.get_job(job_id, owner)
        if job.status.is_final:
            return job
        self._election.check()
        return await self._scheduler.cancel(job)

    async def retry_job(self, job_id: str, new_id: str, owner: str | None) -> JobRecord:
        return await self._make_of(job_id, new_id, owner, lambda job: self._submissions.retry_job(job, new_id))

    async def revise_job(self, job_id: str, new_id: str, revision: Revision, owner: str | None) -> JobRecord:
        return await self._make_of(job_id, new_id, owner, lambda job: self._revisions.revise(job, new_id, revision))

    async def _make_of(
        self, job_id: str, new_id: str, owner: str | None, make: Callable[[JobRecord], Awaitable[object]]
    ) -> JobRecord:
        """Return the job `new_id`. If it does not exist, `make` stores it, given the job `job_id`."""
        with suppress(LookupError):
            return await self.get_job(new_id, owner)
        self._election.check()
        job = await self.get_job(job_id, owner)
        async with self._reservation(None, owner, is_job=True):
            await self._space.retrying(make, job)
        await self._scheduler.start_waiting()
        return await self.get_job(new_id, owner)

    async def edit_turns(self, job_id: str, edit: TurnEdit, owner: str | None) -> JobRecord:
        self._election.check()
        job = await self.get_job(job_id, owner)
        return await self._drafts.edit(job.id, edit)

    async def approve_job(self, job_id: str, owner: str | None) -> JobRecord:
        self._election.check()
        job = await self.get_job(job_id, owner)
        await self._space.retrying(self._drafts.approve, job.id)
        await self._scheduler.start_waiting()
        return await self.get_job(job.id, owner)

    async def delete_job(self, job_id: str, owner: str | None) -> None:
        with suppress(NotFoundError):
            job = await self.get_job(job_id, owner)
            self._election.check()
            await self._scheduler.delete(job)

    async def finished_segments(self, job_id: str, owner: str | None) -> list[SegmentRecord]:
        job = await self.get_job(job_id, owner)
        return await self._in_table(self._table.finished_segments, job.id)

    async def create_avatar(self, form: AvatarForm, context: UploadContext) -> AvatarRecord:
        self._election.check()
        async with self._storing(form, context):
            avatar = await self._avatar_submissions.create(form, context.owner)
        if avatar.status is not AvatarStatus.READY:
            self._analyses.start(avatar)
        return avatar

    async def change_avatar(self, avatar_id: str, form: AvatarChangeForm, context: UploadContext) -> AvatarRecord:
        self._election.check()
        async with self._storing(form, context):
            return await self._avatar_submissions.change(avatar_id, form, context.owner)

    async def add_clip(self, avatar_id: str, form: ClipForm, context: UploadContext) -> AvatarRecord:
        self._election.check()
        async with self._storing(form, context):
            avatar, clip = await self._clips.add(avatar_id, form, context.owner)
        if clip.status is not AvatarStatus.READY:
            self._analyses.start(clip)
        return avatar

    async def clips(self, keys: Sequence[str]) -> dict[str, AvatarRecord]:
        return await self._in_table(self._table.clips_of, *keys)

    async def delete_clip(self, avatar_id: str, name: str, owner: str | None) -> None:
        self._election.check()
        await self._clips.delete(avatar_id, name, owner)
        await self._avatars.try_sweep()

    async def get_avatar(self, avatar_id: str, owner: str | None) -> AvatarRecord:
        return await self._in_table(self._table.get_avatar, avatar_id, owner)

    async def present(self, avatar_id: str, owner: str | None, engine: str, settings: AvatarSettings) -> ResolvedAvatar:
        """Return how a session shows an avatar, analysed for an engine and pinned; see `LiveAvatars.present`."""
        self._election.check()
        async with counted_compute(self._table, owner):
            return await self._live_avatars.present(await self.get_avatar(avatar_id, owner), owner, engine, settings)

    async def report_live(self, usage: LiveUsage) -> None:
        """Count what a live session has used since its start; the first report takes one of its owner's sessions.

        Raises:
            KeyLimitError: The API key may have no further live session.
        """
        self._election.check()
        check = partial(self._checks.check_live, usage.owner)
        await self._in_table(self._table.usage.record_live, usage, check)

    async def usage(self, first: date | None, last: date | None, owner: str | None) -> list[UsageRow]:
        return await asyncio.to_thread(usage_rows, self._table, self._stored, first, last, owner)

    async def pin(self, avatar_id: str, owner: str | None) -> None:
        """Protect an avatar that is shown live from eviction; see `Avatars.pin`."""
        self._election.check()
        avatar = await self.get_avatar(avatar_id, owner)
        await self._avatars.pin(avatar.key)

    async def start_token_session(self, session_id: str, grant: TokenGrant) -> int:
        self._election.check()
        return await self._in_table(self._token_sessions.start, session_id, grant)

    async def end_token_session(self, session_id: str, seconds: int) -> None:
        self._election.check()
        await self._in_table(self._token_sessions.end, session_id, seconds)

    async def list_avatars(self, owner: str | None) -> list[AvatarRecord]:
        return await self._in_table(self._table.list_avatars, owner=owner)

    async def people(self, avatar_id: str, owner: str | None) -> PeopleScan:
        self._election.check()
        return await self._avatars.poll_people(await self.get_avatar(avatar_id, owner))

    async def create_background(self, form: BackgroundForm, context: UploadContext) -> BackgroundRecord:
        self._election.check()
        async with self._storing(form, context):
            return await self._backgrounds.create(form.background_file, context.owner)

    async def delete_background(self, file_id: str, owner: str | None) -> None:
        self._election.check()
        await self._backgrounds.delete(file_id, owner)

    async def delete_avatar(self, avatar_id: str, owner: str | None) -> None:
        self._election.check()
        avatar = await self.get_avatar(avatar_id, owner)
        async with self._avatars.folder_lock:
            await self._in_table(self._forget_avatar, avatar)
            await self._analyses.cancel(avatar.key)  # it would go on in the folder of an avatar of the same source
            await asyncio.to_thread(self._files.delete_avatar, avatar.key)
        await self._avatars.try_sweep()  # of its clips

    def _forget_avatar(self, avatar: AvatarRecord) -> None:
        keys = {avatar.key, *self._table.avatars_belonging_to(avatar.key)}
        users = [job.id for job in self._table.unfinished_jobs() if keys & job.avatar_keys]
        if users:
            raise StateError(f"Avatar {avatar.id} is used by {len(users)} unfinished job(s), such as {users[0]}.")
        self._table.delete_avatar(avatar.key)

    async def status(self) -> ServiceStatus:
        replicas = await self._replicas.read()
        return await self._in_table(service_status, self._admission, self._limits, self._files, replicas)

    async def ready(self) -> bool:
        self._election.check()
        try:
            return await self._stages.ready()
        except LipwrightError:  # a stage is still starting
            return False

    def _announce(self, job_id: str) -> None:
        """Wake all that wait for a change of this job; called in the thread of the table."""
        self._loop.call_soon_threadsafe(self._wake, job_id)

    def _wake(self, job_id: str) -> None:
        if (changed := self._changed.pop(job_id, None)) is not None:
            changed.set()

    @asynccontextmanager
    async def _reservation(
        self, admission_id: str | None, owner: str | None, is_job: bool = False
    ) -> AsyncIterator[None]:
        """Use up a reservation; a request without one, from a batch or after a restart, makes one now."""
        if not await self._in_table(self._admission.holds, admission_id):
            request = AdmitRequest(owner=owner, num_bytes=1, max_bytes=1, is_job=is_job)
            admission_id = (await self._in_table(self._admission.admit, request)).id
        try:
            yield
        finally:
            await self._in_table(self._admission.release, admission_id)

    @asynccontextmanager
    async def _storing(self, form: BaseModel, context: UploadContext) -> AsyncIterator[None]:
        """Use up the reservation of a request; if the block succeeds, its uploads count as stored."""
        async with self._reservation(context.admission_id, context.owner):
            yield
            self._stored.add(context.owner, upload_bytes(form))
