"""Drafts: jobs whose texts are spoken and wait for review. Their turns can be changed until they are approved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from weakref import WeakValueDictionary

from lipwright.errors import LipwrightError, NotFoundError, OptionError, StateError, with_name
from lipwright.jobs.model.base import utc_now
from lipwright.jobs.model.edits import AnyTurnEdit, NewTurn, TurnEdit, TurnRemoval, TurnSplit
from lipwright.jobs.model.plan import JobPlan
from lipwright.jobs.model.record import JobRecord, JobStage, JobStatus
from lipwright.jobs.model.turns import PlannedTurn
from lipwright.jobs.planning import check_one_face, video_seconds, with_changed_turns
from lipwright.jobs.services import JobServices
from lipwright.jobs.speaking import SpeakingStage, measured, turn_name, with_fits
from lipwright.jobs.turn_faces import JobSource, with_one_face_per_person
from lipwright.jobs.turns import texts_of
from lipwright.jobs.voices import with_voices
from lipwright.media.probe import VideoInfo
from lipwright.media.subtitles.burnt import check_fonts
from lipwright.telemetry.log_context import CallContext


class Drafts:
    """Changes drafts, and speaks again what an edit has changed."""

    def __init__(self, services: JobServices, check_approval: Callable[[JobRecord], None]) -> None:
        """`check_approval`, called in the thread of the table, raises for a job that cannot join the queue."""
        self._services, self._table, self._check_approval = services, services.table, check_approval
        self._speaking = SpeakingStage(services)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # of jobs that are changed

    async def edit(self, job_id: str, edit: TurnEdit) -> JobRecord:
        """Apply an edit and return the job. If it fails, the draft stays as it is.

        Raises:
            StateError: The job is not a draft, or has changed since the caller has seen it.
            NotFoundError: There is no such turn.
            OptionError: The turns would overlap, or the video, a face or a voice does not allow the edit.
            LipwrightError: The voice failed.
        """
        async with self._lock(job_id):
            return await self._edit(await self._draft(job_id, edit.version), edit)

    async def approve(self, job_id: str) -> JobRecord:
        """Render a draft, once it is its turn; an edit in progress ends first. Approving it again changes nothing.

        Raises:
            StateError: The job has no draft.
            LipwrightError: The queue, a limit of the API key or the disk has no room for it; it stays in review.
        """
        async with self._lock(job_id):
            job = await self._table.run_in_thread(self._table.get_job, job_id)
            if job.status is not JobStatus.REVIEW:
                if job.spec.review and not job.plan.needs_review:
                    return job
                raise StateError(f"Job {job_id} cannot be approved: it is {job.status}, not in review.")
            await self._table.run_in_thread(self._enqueue, job)
            return await self._table.run_in_thread(self._table.get_job, job_id)

    def _enqueue(self, job: JobRecord) -> None:
        self._check_approval(job)
        plan = job.plan.model_copy(update={"needs_review": False})
        self._table.update_job(job.id, plan=plan, status=JobStatus.QUEUED, stage=JobStage.QUEUED)

    def _lock(self, job_id: str) -> asyncio.Lock:
        """Return the lock of a job, which exists while somebody holds it or waits for it."""
        return self._locks.setdefault(job_id, asyncio.Lock())

    async def _draft(self, job_id: str, version: int) -> JobRecord:
        job = await self._table.run_in_thread(self._table.get_job, job_id)
        if job.status is not JobStatus.REVIEW:
            raise StateError(
                f"The turns of job {job_id} cannot be changed: it is {job.status}, not in review. To change a finished "
                "job, make a revision of it."
            )
        if job.version != version:
            raise StateError(f"Job {job_id} has changed in the meantime. Read its turns again.")
        return job

    async def _edit(self, job: JobRecord, edit: TurnEdit) -> JobRecord:
        source = (await self._services.avatars.source(job.avatar_key)).info
        turns = edited(job.plan.turns, edit.number, edit.edit, job.plan.action_names)
        check_one_face(job.plan, turns)
        record = await self._services.avatars.record(job.avatar_key)
        people = JobSource(record.source_sha256, record.face, job.owner)
        named = await with_one_face_per_person(turns, people, self._services.avatars.people)
        max_seconds = self._services.config.limits.max_audio_seconds
        plan = with_changed_turns(job.plan, named, video_seconds(source, job.plan), max_seconds)
        turns = list(plan.turns)
        new = [number for number, turn in enumerate(turns) if turn.text is not None and turn.natural_seconds is None]
        if new:
            self._services.check_texts(texts_of(turns))
            if plan.options.subtitles == "burnt":
                await asyncio.to_thread(check_fonts, texts_of(turns))
            stages, context = self._services.stages, CallContext(job.id)
            turns, _ = await with_voices(stages, context, turns, job.spec.spoken_language)
        for number in new:
            turns[number] = await self._speak(job, number, turns[number])
        return await self._store(job, plan.with_turns(turns), source)

    async def _speak(self, job: JobRecord, number: int, turn: PlannedTurn) -> PlannedTurn:
        try:
            cue = await self._speaking.speak_turn(job, turn)
        except LipwrightError as error:
            raise with_name(error, turn_name(number, turn)) from error
        return measured(turn, cue)

    async def _store(self, job: JobRecord, plan: JobPlan, source: VideoInfo) -> JobRecord:
        record = await self._services.avatars.record(job.avatar_key)
        keys = await self._services.avatar_submissions.store_faces(record, plan.turns, job.owner, source)
        plan = with_fits(plan, video_seconds(source, plan))
        num_cues = len(texts_of(plan.turns))
        return await self._update(
            job, plan=plan, turn_avatar_keys=keys, num_cues=num_cues, num_cues_done=num_cues, reviewed_at=utc_now()
        )

    async def _update(self, job: JobRecord, **fields: object) -> JobRecord:
        await self._table.run_in_thread(self._table.update_job, job.id, **fields)
        return await self._table.run_in_thread(self._table.get_job, job.id)


def edited(
    turns: Sequence[PlannedTurn], number: int, change: AnyTurnEdit, actions: Collection[str] | None = None
) -> list[PlannedTurn]:
    """Return turns after an edit, in any order; texts that have to be spoken again have no `natural_seconds`.

    Args:
        turns: The turns.
        number: The turn to edit, from 0; not used for a new one.
        change: The edit.
        actions: The actions that texts can name; None without any.

    Raises:
        NotFoundError: There is no turn of that number.
        OptionError: The edit is not possible for that turn, or removes the last one.
    """
    kept = list(turns)
    if isinstance(change, NewTurn):
        return [*kept, PlannedTurn(**change.model_dump()).with_actions(actions)]
    if not 0 <= number < len(kept):
        raise NotFoundError(f"There is no turn {number}: expected 0 to {len(kept) - 1}.")
    turn = kept[number]
    if isinstance(change, TurnRemoval):
        if len(kept) == 1:
            raise OptionError("turns: the last turn cannot be removed.")
        return kept[:number] + kept[number + 1 :]
    if isinstance(change, TurnSplit):
        if turn.text is None or not turn.start < change.start < (turn.end or change.start + 1):
            raise OptionError(f"turns[{number}]: only a text can be split, at a time between its start and its end.")
        first = _without_speech(turn, text=change.text, end=change.start)
        second = _without_speech(turn, text=change.next_text, start=change.start, action=None)
        return [*kept[:number], *(part.with_actions(actions) for part in (first, second)), *kept[number + 1 :]]
    fields = {name: getattr(change, name) for name in change.model_fields_set}
    if turn.text is None and fields.keys() & {"text", "voice"}:
        raise OptionError(f"turns[{number}]: its speech is a file; text and voice cannot be changed.")
    changed = turn.model_copy(update={"text": turn.marked_text, **fields}).with_actions(actions)
    is_said_alike = (changed.text, changed.voice) == (turn.text, turn.voice)
    return [*kept[:number], changed if is_said_alike else _without_speech(changed), *kept[number + 1 :]]


def _without_speech(turn: PlannedTurn, **fields: object) -> PlannedTurn:
    none = dict.fromkeys(("natural_seconds", "cue", "speed", "cut_seconds", "recorded"))
    return turn.model_copy(update={**fields, **none})
