"""Completes the plan of a job: has its video translated, finds the faces of speakers, speaks and records texts."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from itertools import chain, count
from math import inf
from typing import Final

from lipwright.errors import LipwrightError, with_name
from lipwright.jobs.model.base import UploadedFile
from lipwright.jobs.model.plan import JobPlan
from lipwright.jobs.model.record import JobRecord
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.model.turns import PlannedTurn, Recording
from lipwright.jobs.planning import SPEECH_FIELD, TEXT_FIELD, JobLength, length_of, video_seconds, with_audio_speed
from lipwright.jobs.services import JobServices
from lipwright.jobs.speech_messages import PlacedCue, RecordedCue
from lipwright.jobs.turn_faces import JobSource, with_one_face_per_person
from lipwright.jobs.turn_sources import turns_of_transcript, with_faces
from lipwright.jobs.turns import check_overlaps, speech_slots, texts_of
from lipwright.jobs.voices import with_voices
from lipwright.media.dubbing.slots import SpeechSlot, fit
from lipwright.media.probe import VideoInfo
from lipwright.media.subtitles.actions import read_actions
from lipwright.media.subtitles.burnt import check_fonts
from lipwright.storage.cues import SpokenCue
from lipwright.storage.file_keys import job_cues_folder, job_file_key, source_key
from lipwright.telemetry.log_context import CallContext

_CUES_AT_A_TIME: Final = 2
"""Cues of one job that are spoken or wait for a voice at the same time."""
_RECORDING: Final = "texts.flac"

SPOKEN_SHARE: Final = 0.1
"""Progress of a job with texts once they are spoken."""


class SpeakingStage:
    """Speaks the texts of one job. Spoken texts are kept, so that another run continues with the next one."""

    def __init__(self, services: JobServices) -> None:
        self._services, self._stages, self._avatars = services, services.stages, services.avatars

    async def complete(self, job: JobRecord, source: VideoInfo) -> JobRecord:
        """Return the job with a complete plan, or one that waits for review.

        Raises:
            OptionError: A text cannot be spoken, or two speakers are the same person at the same time.
            VoiceError: The voice failed.
            LipwrightError: Whatever else ended the translation, the search for people or the synthesis.
        """
        spec = job.spec
        if spec.text is not None:
            return await self._complete_text(job, spec, spec.text, source)
        if spec.translate_to is not None and job.plan.needs_transcript:
            job = await self._with_transcript(job, spec, spec.translate_to, source)
        if job.plan.needs_faces:
            job = await self._with_faces(job, source)
        if not texts_of(job.plan.turns):
            return await self._completed(job, job.plan, job.plan.audio, length_of(job.plan, 0.0, source))
        video_length = video_seconds(source, job.plan)
        job = await self._with_voices(job, video_length)
        spoken = await self._speak_turns(job, unrecorded_slots(job.plan.turns, video_length))
        if job.plan.needs_review:
            return await self._change(job, plan=with_fits(_measured(job.plan, spoken), video_length))
        return await self._record(job, spoken, source)

    async def speak_turn(self, job: JobRecord, turn: PlannedTurn) -> SpokenCue:
        """Speak the text of a turn, unless that is done."""
        folder = job_cues_folder(job.id)
        await asyncio.to_thread(self._services.files.stored.make_folder, folder)
        return await self._stages.speak(CallContext(job.id), turn.text or "", turn.voice, job.owner, folder)

    async def _complete_text(self, job: JobRecord, spec: JobSpec, text: str, source: VideoInfo) -> JobRecord:
        context = CallContext(job.id)
        text, _ = read_actions(text, job.plan.action_names)
        turn = PlannedTurn(start=0.0, text=text, voice=spec.voice)
        (turn,), language = await with_voices(self._stages, context, [turn], spec.language)
        await self._change(job, num_cues=1)
        cue = await self.speak_turn(job, turn)
        await asyncio.to_thread(self._services.files.stored.copy, cue.key, job_file_key(job.id, SPEECH_FIELD))
        probed = await self._stages.probe(context, None, job_file_key(job.id, SPEECH_FIELD))
        assert probed.audio is not None
        plan = job.plan.with_options(language=job.options.language or language)
        plan, seconds = with_audio_speed(
            plan, spec.max_audio_stretch, probed.audio.duration_seconds, video_seconds(source, plan)
        )
        speech = UploadedFile(
            key="", sha256=cue.sha256, num_bytes=cue.num_bytes, label=job.audio_label, closures=cue.closures
        )
        length = length_of(plan, seconds, source)
        return await self._completed(job, plan, {SPEECH_FIELD: speech}, length, num_cues_done=1)

    async def _with_transcript(self, job: JobRecord, spec: JobSpec, translate_to: str, source: VideoInfo) -> JobRecord:
        """Give the job turns: what is said in the source, translated."""
        context = CallContext(job.id)
        said = await self._stages.transcribe(context, source_key(job.avatar_key), job.owner)
        lines = await self._stages.translate(context, said, translate_to)
        turns = turns_of_transcript(lines, spec.speakers, spec.voice, video_seconds(source, job.plan) or inf)
        if spec.subtitles_output == "burnt":
            await asyncio.to_thread(check_fonts, texts_of(turns))
        return await self._change(job, plan=job.plan.with_turns(turns, needs_transcript=False, needs_faces=True))

    async def _with_faces(self, job: JobRecord, source: VideoInfo) -> JobRecord:
        """Give every turn a face, by who speaks when in the source; waits until the people in it are known."""
        record = await self._avatars.record(job.avatar_key)
        report = await self._avatars.people.find(record, await self._avatars.source(record.key))
        turns = await asyncio.to_thread(with_faces, job.plan.turns, report)
        people = JobSource(record.source_sha256, record.face, job.owner)
        turns = list(await with_one_face_per_person(turns, people, self._avatars.people))
        check_overlaps(turns)
        keys = await self._services.avatar_submissions.store_faces(record, turns, job.owner, source)
        return await self._change(job, plan=job.plan.with_turns(turns, needs_faces=False), turn_avatar_keys=keys)

    async def _with_voices(self, job: JobRecord, video_length: float | None) -> JobRecord:
        turns, language = await with_voices(self._stages, CallContext(job.id), job.plan.turns, job.spec.spoken_language)
        plan = job.plan.with_turns(turns).with_options(language=job.options.language or language)
        num_cues = len(unrecorded_slots(turns, video_length))
        return await self._change(job, plan=plan, num_cues=num_cues, num_cues_done=0)

    async def _speak_turns(self, job: JobRecord, slots: Collection[int]) -> dict[int, SpokenCue]:
        """Return the spoken texts of the turns with these numbers, by number."""
        free = asyncio.Semaphore(_CUES_AT_A_TIME)
        spoken: dict[int, SpokenCue] = {}

        async def speak(number: int, turn: PlannedTurn) -> None:
            async with free:
                try:
                    spoken[number] = await self.speak_turn(job, turn)
                except LipwrightError as error:
                    raise with_name(error, turn_name(number, turn)) from error
            share = SPOKEN_SHARE * len(spoken) / (job.num_cues or 1)
            await self._change(job, num_cues_done=len(spoken), progress=share, attempts=0)

        async with asyncio.TaskGroup() as group:
            for number in slots:
                group.create_task(speak(number, job.plan.turns[number]))
        return spoken

    async def _record(self, job: JobRecord, spoken: dict[int, SpokenCue], source: VideoInfo) -> JobRecord:
        """Record the spoken texts in their time slots, one after the other in one file; recorded ones stay there."""
        turns, audio = list(job.plan.turns), dict(job.plan.audio)
        slots = unrecorded_slots(turns, video_seconds(source, job.plan))
        if slots:
            field = _recording_field(audio)
            cues = [PlacedCue(spoken[n].key, slot, turn_name(n, turns[n])) for n, slot in slots.items()]
            recorded = await self._stages.record_speech(CallContext(job.id), cues, job_file_key(job.id, field))
            closures = tuple(sorted(chain.from_iterable(cue.closures for cue in recorded.cues)))
            audio[field] = UploadedFile(
                key="", sha256=recorded.sha256, num_bytes=recorded.num_bytes, label=_RECORDING, closures=closures
            )
            for (number, slot), cue in zip(slots.items(), recorded.cues, strict=True):
                recording = _recording(slot, field, cue)
                turns[number] = measured(turns[number], spoken[number]).model_copy(update={"recorded": recording})
        turns = [_placed(turn) for turn in turns]
        audio = without_unused_recordings(audio, turns)
        plan = job.plan.with_turns(turns)
        return await self._completed(job, plan, audio, length_of(plan, 0.0, source))

    async def _completed(
        self, job: JobRecord, plan: JobPlan, audio: dict[str, UploadedFile], length: JobLength, **fields: object
    ) -> JobRecord:
        complete = plan.model_copy(update={"audio": audio, "is_complete": True})
        if self._services.config.labels.invisible and job.watermark_id is None:
            fields["watermark_id"] = job.model_copy(update={"plan": complete}).with_watermark().watermark_id
        return await self._change(job, plan=complete, **length._asdict(), **fields)

    async def _change(self, job: JobRecord, **fields: object) -> JobRecord:
        table = self._services.table
        await table.run_in_thread(table.update_job, job.id, **fields)
        return job.model_copy(update=fields)


def measured(turn: PlannedTurn, cue: SpokenCue) -> PlannedTurn:
    """Return a turn whose text is spoken."""
    return turn.model_copy(update={"natural_seconds": round(cue.seconds, 3), "cue": cue.key.rpartition("/")[2]})


def _measured(plan: JobPlan, spoken: dict[int, SpokenCue]) -> JobPlan:
    """Return a plan that says how long its spoken texts are."""
    turns = list(plan.turns)
    for number, cue in spoken.items():
        turns[number] = measured(turns[number], cue)
    return plan.with_turns(turns)


def unrecorded_slots(turns: Sequence[PlannedTurn], video_length: float | None) -> dict[int, SpeechSlot]:
    """Return the time slots of the texts that are not recorded in them, by the number of the turn."""
    return {
        number: slot
        for number, slot in speech_slots(turns, video_length).items()
        if (recorded := turns[number].recorded) is None or recorded.slot != (slot.start, slot.end, _stored(slot.latest))
    }


def without_unused_recordings(
    audio: Mapping[str, UploadedFile], turns: Sequence[PlannedTurn]
) -> dict[str, UploadedFile]:
    """Return the audio of a job without recordings of texts that no turn uses; `audio` itself always stays."""
    used = {turn.recorded.audio for turn in turns if turn.recorded is not None} | {SPEECH_FIELD}
    return {field: file for field, file in audio.items() if file.key or field in used}


def _recording_field(audio: Collection[str]) -> str:
    """Return the name of a new recording."""
    names = chain((SPEECH_FIELD, TEXT_FIELD), (f"{TEXT_FIELD}-{number}" for number in count(2)))
    return next(name for name in names if name not in audio)


def _recording(slot: SpeechSlot, field: str, cue: RecordedCue) -> Recording:
    return Recording(
        start=slot.start,
        slot_end=slot.end,
        latest=_stored(slot.latest),
        end=slot.start + cue.seconds,
        audio=field,
        audio_start=cue.audio_start,
        speed=round(cue.speed, 3) if cue.speed > 1 else None,
        cut_seconds=round(cue.cut_seconds, 3) or None,
    )


def _stored(latest: float) -> float | None:
    """Return a time as JSON can hold it."""
    return None if latest == inf else latest


def _placed(turn: PlannedTurn) -> PlannedTurn:
    """Return a turn that plays its recording."""
    if turn.recorded is None:
        return turn
    return turn.model_copy(
        update=turn.recorded.model_dump(include={"end", "audio", "audio_start", "speed", "cut_seconds"})
    )


def with_fits(plan: JobPlan, video_length: float | None) -> JobPlan:
    """Return a plan whose turns say how fast their texts will be spoken, and what will be cut."""
    turns: list[PlannedTurn] = list(plan.turns)
    for number, slot in speech_slots(turns, video_length).items():
        seconds = turns[number].natural_seconds
        if seconds is not None:
            speed, _, cut = fit(seconds, slot)
            changes = {"speed": round(speed, 3) if speed > 1 else None, "cut_seconds": round(cut, 3) or None}
            turns[number] = turns[number].model_copy(update=changes)
    return plan.with_turns(turns)


def turn_name(number: int, turn: PlannedTurn) -> str:
    """Return how errors name a turn."""
    return f"turns[{number}], at {turn.start:g} s"
