"""Revisions: new jobs that differ from a finished one in some turns or options, and reuse what stays the same."""

from __future__ import annotations

import asyncio
from typing import Final

from lipwright.errors import NotFoundError, OptionError, StateError
from lipwright.jobs.drafts import edited
from lipwright.jobs.model.edits import Revision, TurnRemoval
from lipwright.jobs.model.plan import JobPlan
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.model.turns import PlannedTurn, Turn
from lipwright.jobs.planning import check_one_face, length_of, video_seconds, with_changed_turns
from lipwright.jobs.services import JobServices
from lipwright.jobs.submission import Submissions
from lipwright.jobs.turn_faces import JobSource, with_one_face_per_person
from lipwright.jobs.turns import texts_of
from lipwright.media.probe import VideoInfo
from lipwright.media.subtitles.burnt import check_fonts
from lipwright.storage.file_keys import source_key

_OTHER_STATES: Final = {
    JobStatus.REVIEW: "Change its turns instead.",
    JobStatus.FAILED: "Retry it instead.",
    JobStatus.CANCELLED: "Submit it again.",
}


class Revisions:
    """Makes new jobs of finished ones."""

    def __init__(self, services: JobServices, submissions: Submissions) -> None:
        self._services, self._submissions = services, submissions

    async def revise(self, job: JobRecord, job_id: str, revision: Revision) -> JobRecord:
        """Store the job `job_id`: a finished job with changes. It has copies of its files and the same watermark.

        Raises:
            StateError: The job has not succeeded.
            NotFoundError: Files of the job are gone, or it has no such turn.
            OptionError: The changes are not possible.
            StorageFullError: The disk would not hold the result.
        """
        spec = checked_spec(job)
        await self._check_source(job)
        source = (await self._services.avatars.source(job.uploaded_avatar_keys[0])).info
        if revision.settings.background_gain_db is not None and not source.has_audio:
            raise OptionError("settings.background_gain_db: the video has no sound.")
        if revision.settings.background_gain_db is not None and job.plan.clips:
            raise OptionError("settings.background_gain_db: not possible with clips, or with loop=natural.")
        turns = spec.turns and (*spec.turns, *(Turn(**turn.model_dump()) for turn in revision.added_turns))
        spec = revision.settings.revised_spec(spec, review=revision.review, turns=turns)
        plan, keys = revision.settings.revised_plan(job.plan), job.turn_avatar_keys
        if revision.changes_turns:
            plan, keys = await self._with_turns(job, plan, revision, source)
        if texts := texts_of(plan.turns):
            plan = plan.with_turns([turn.unrecorded() for turn in plan.turns], is_complete=False)
            if plan.options.subtitles == "burnt":
                await asyncio.to_thread(check_fonts, texts)
        plan = plan.model_copy(update={"needs_review": revision.review, "actions": None})
        length = length_of(plan, job.audio_seconds, source)._asdict()
        revised = job.model_copy(update={"plan": plan, "turn_avatar_keys": keys, "disk_bytes": length["disk_bytes"]})
        return await self._submissions.store_copy(
            revised, job_id, spec=spec, revision_of=job.id, **(length if plan.turns else {})
        )

    async def _check_source(self, job: JobRecord) -> None:
        table, files = self._services.table, self._services.files
        key = job.uploaded_avatar_keys[0]
        record = await table.run_in_thread(table.find_avatar, key)
        if record is None or not await asyncio.to_thread(files.has, source_key(key)):
            raise NotFoundError(f"The files of job {job.id} are gone. Submit them again.")

    async def _with_turns(
        self, job: JobRecord, plan: JobPlan, revision: Revision, source: VideoInfo
    ) -> tuple[JobPlan, dict[str, str]]:
        """Return the plan with the changed turns, and the avatars of their faces."""
        if not plan.turns:
            raise OptionError(f"turns: job {job.id} has none. Submit a new job to change its speech.")
        avatars, turns = self._services.avatars, _apply_changes(plan, revision)
        self._services.check_texts(texts_of(turns))
        check_one_face(plan, turns)
        record = await avatars.record(job.uploaded_avatar_keys[0])  # a composite may be evicted
        people = JobSource(record.source_sha256, record.face, job.owner)
        named = await with_one_face_per_person(turns, people, avatars.people)
        max_seconds = self._services.config.limits.max_audio_seconds
        plan = with_changed_turns(plan, named, video_seconds(source, plan), max_seconds)
        return plan, await self._services.avatar_submissions.store_faces(record, plan.turns, job.owner, source)


def checked_spec(job: JobRecord) -> JobSpec:
    """Return the spec of a job that can be revised; StateError for another."""
    if job.status is not JobStatus.SUCCEEDED:
        advice = _OTHER_STATES.get(job.status, "Wait until it has succeeded.")
        raise StateError(f"Job {job.id} cannot be revised: its status is {job.status}. {advice}")
    return job.spec


def _apply_changes(plan: JobPlan, revision: Revision) -> list[PlannedTurn]:
    """Return turns after all changes; the numbers in them are those of the given turns."""
    turns, names = [turn.unrecorded() for turn in plan.turns], plan.action_names
    for change in revision.turns:
        turns = edited(turns, change.number, change.change, names)
    for turn in revision.added_turns:  # at the end, and first: all others may be removed
        turns = edited(turns, len(turns), turn, names)
    for number in sorted(revision.removed_turns, reverse=True):
        turns = edited(turns, number, TurnRemoval())
    return turns
