"""Runs one job: prepare the speech, analyse the avatar, plan and render segments, join them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from math import log10
from typing import Final, NamedTuple

from lipwright.errors import FaceNotFoundError, InputError, LipwrightError, StorageFullError, StoredFileError
from lipwright.jobs.actions import ClipTimes, planned_actions, speech_rows
from lipwright.jobs.face_planner import FacePlanner, JobFace
from lipwright.jobs.forecast import promised_bytes, result_bytes
from lipwright.jobs.messages import AvatarRef, Background, OutputInfo, OutputPicture, PreparedSpeech, SourceVideo
from lipwright.jobs.model.plan import PlannedAction, StoredLevel
from lipwright.jobs.model.record import JobRecord, JobStage, JobStatus
from lipwright.jobs.progress import JobProgress
from lipwright.jobs.retry import first_leaf_error
from lipwright.jobs.segments.finished import FinishedSegments
from lipwright.jobs.segments.kept import PlanCache
from lipwright.jobs.segments.plan import Block, burnt_texts, fit_to_speech, plan_blocks, visible_corners
from lipwright.jobs.segments.rendering import SegmentRendering
from lipwright.jobs.services import JobServices
from lipwright.jobs.speaking import SpeakingStage
from lipwright.jobs.turn_faces import JobSource, with_one_face_per_person
from lipwright.jobs.turns import FaceTurns, all_parts, check_overlaps, closures_of, cut_texts, faces_of
from lipwright.media.playback import Playback
from lipwright.media.probe import VideoInfo
from lipwright.media.result.stream_copy import copied_ranges
from lipwright.storage.file_keys import (
    face_speech_key,
    job_file_key,
    result_key,
    segment_key,
    segments_folder,
    sound_key,
    speech_key,
)
from lipwright.telemetry.log_context import CallContext
from models.clips.graph import ClipGraph
from models.engines.protocol import speech_context_seconds
from models.quality.findings import OutputFacts, make_report
from models.quality.report import QualityReport
from models.speech.level import SpeechLevel

logger = logging.getLogger(__name__)

_MAX_COPY_SECONDS = 15.0  # a copied segment is held in memory
_SIMILAR_DB: Final = 1.0
"""By how much the speech of a revision may differ in level from that of the job that it revises."""


_Spoken = tuple[FaceTurns | None, PreparedSpeech]
"""A face of a job, None for the only one, and its speech."""


class _FittedVideo(NamedTuple):
    """What a result shows of its source, and the actions that are not shown in it."""

    source: VideoInfo
    picture: OutputPicture
    spoken_seconds: float
    playback: Playback
    missing: tuple[PlannedAction, ...]


class JobRun:
    """Runs one job. All finished work is recorded, so that another run continues where this one ends."""

    def __init__(self, services: JobServices, job: JobRecord) -> None:
        """Prepare a run; `run` does the work and may be cancelled at any point."""
        self._services = services
        self._job = job
        self._context = CallContext(job.id)
        self._num_frames = 0
        self._progress = JobProgress(services.table, job)
        self._segments = FinishedSegments(services.config.render, services.table, services.files, job)
        self._analysed: set[str] = set()  # keys of avatars
        self._engine = self._source_sha256 = ""  # fingerprint of the engine, and hash of the source

    async def run(self) -> JobStatus:
        """Make the video and store it, or the draft of a job that is reviewed; return the status of the job then.

        Intermediate files that are missing or damaged are made again, within `max_attempts`.

        Raises:
            StoredFileError: A file that the caller sent was lost or damaged in storage.
            LipwrightError: The job failed.
        """
        for left in reversed(range(self._services.config.jobs.max_attempts)):
            try:
                return await self._make()
            except Exception as error:
                cause = first_leaf_error(error)
                if isinstance(cause, InputError):
                    raise await self._explain_input_error(cause) from error
                is_cue_damaged = isinstance(cause, StoredFileError) and not self._job.plan.is_complete
                if not left or not (is_cue_damaged or await self._is_damaged()):
                    raise
                logger.warning(
                    "intermediate files are missing or damaged; making them again, %d retries left: %s", left, cause
                )
            finally:
                self._services.limiter.release_all(self._job.id)
        raise AssertionError("the last attempt returns or raises")

    async def _explain_input_error(self, error: InputError) -> LipwrightError:
        """The error, or a StoredFileError if a stored input was lost or damaged."""
        job, services = self._job, self._services
        cause: LipwrightError = error
        for field, file in job.audio_files.items():
            key = job_file_key(job.id, field)
            cause = await asyncio.to_thread(services.files.explain_input_error, cause, key, file.sha256)
        if (background := job.plan.background_file) is not None:
            key, sha256 = job_file_key(job.id, "background"), background.sha256
            cause = await asyncio.to_thread(services.files.explain_input_error, cause, key, sha256)
        for key in job.avatar_keys:
            cause = await services.avatars.explain_input_error(key, cause)
        return cause

    async def _is_damaged(self) -> bool:
        """Whether an avatar or a segment is missing or damaged."""
        if await asyncio.to_thread(self._segments.are_damaged):
            return True
        engine = self._job.options.engine
        return not all([await self._services.avatars.is_intact(key, engine) for key in self._analysed])

    async def _make(self) -> JobStatus:
        services, files = self._services, self._services.files
        self._job = await services.table.run_in_thread(services.table.get_job, self._job.id)
        if not self._job.plan.is_complete:
            await self._complete_plan()
            if not self._job.plan.is_complete:
                return JobStatus.REVIEW
        job = self._job
        if job.report is not None and await asyncio.to_thread(files.has, result_key(job.id, job.format)):
            return JobStatus.SUCCEEDED  # an earlier run stored the video, but ended before it could record that
        speech, spoken = await self._prepare_speech()
        avatars, background = await self._analyse(spoken)
        source = avatars[0].source
        video = await self._fit_to_speech(source.info, speech, spoken[0][1])
        await self._progress.start_rendering(self._num_frames)
        planner = await self._planner(video, avatars, spoken)
        copied = await self._copied_ranges(planner, source, video.picture) if background is None else []
        blocks = plan_blocks(self._num_frames, video.picture.info.fps, services.config.render, copied)
        texts = await asyncio.to_thread(burnt_texts, self._job.options, video.picture.info.fps)
        rendering = SegmentRendering(
            services, self._job, self._segments, self._progress, self._engine, self._source_sha256, background, texts
        )
        await rendering.render(blocks, planner)
        report = self._report_quality(video, planner, spoken)
        await asyncio.to_thread(self._segments.check, blocks)

        await self._progress.enter(JobStage.MUXING, report=report.model_dump(mode="json"))
        await self._mux(blocks, source, video.picture)
        return JobStatus.SUCCEEDED

    async def _prepare_speech(self) -> tuple[PreparedSpeech, list[_Spoken]]:
        """Return the speech of the job, and its faces with their speech."""
        job, files = self._job, self._services.files
        files.stored.make_folder(segments_folder(job.id))
        await self._progress.enter(JobStage.PREPARING_AUDIO)
        for field, file in job.audio_files.items():
            await asyncio.to_thread(files.check_size, job_file_key(job.id, field), file.num_bytes)
        prepare = self._services.stages.prepare_speech
        speech = await prepare(self._context, all_parts(job), speech_key(job.id), job.audio_seconds)
        return speech, await self._speech_of_faces(speech)

    async def _analyse(self, spoken: Sequence[_Spoken]) -> tuple[list[AvatarRef], Background | None]:
        """Return the avatar of each face, and what is behind the person."""
        services, job = self._services, self._job
        await self._progress.enter(JobStage.ANALYSING)
        num = len(spoken) + job.plan.has_background
        avatars = [await self._analysed_avatar(number, num, face) for number, (face, _) in enumerate(spoken)]
        await self._check_people()
        self._source_sha256 = (await services.avatars.record(job.avatar_key)).source_sha256
        self._engine = await asyncio.to_thread(services.engines.fingerprint, job.options.engine)
        return avatars, await self._background(num - 1, num, avatars[0])

    async def _fit_to_speech(self, source: VideoInfo, speech: PreparedSpeech, own: PreparedSpeech) -> _FittedVideo:
        """Decide how long the result is and how its source is played; `own` is the speech of the first face."""
        picture, seconds = OutputPicture.of(self._job.options, source), speech.info.duration_seconds
        self._num_frames, playback = fit_to_speech(self._job.options.loop, seconds, source, picture.info.fps)
        missing: tuple[PlannedAction, ...] = ()
        if (graph := await self._services.avatars.graph(self._job.avatar_key)) is not None:
            clips = await self._clip_times(graph, speech, own)
            playback = await asyncio.to_thread(clips.playback, playback, self._num_frames, float(source.fps))
            missing = clips.missing(playback)
        await self._reserve_disk(picture, float(self._num_frames / picture.info.fps))
        return _FittedVideo(source, picture, seconds, playback, missing)

    async def _planner(
        self, video: _FittedVideo, avatars: Sequence[AvatarRef], spoken: Sequence[_Spoken]
    ) -> FacePlanner:
        options, num, shown = self._job.options, self._num_frames, replace(video.source, fps=video.picture.info.fps)
        faces = [
            JobFace(avatar, said, turns and turns.weight(options, shown, num), turns, closures_of(self._job, turns))
            for avatar, (turns, said) in zip(avatars, spoken, strict=True)
        ]
        cache = await asyncio.to_thread(self._plan_cache)
        stages, context = self._services.stages, self._context
        planner = FacePlanner(stages, context, options, faces, video.playback, num, video.picture, cache)
        await planner.follow([turns for turns, _ in spoken])
        return planner

    def _report_quality(self, video: _FittedVideo, planner: FacePlanner, spoken: Sequence[_Spoken]) -> QualityReport:
        options, fps = self._job.options, video.picture.info.fps
        output = OutputFacts(
            self._num_frames,
            fps,
            video.spoken_seconds,
            video.playback.speed * float(fps / video.source.fps),
            options.audio_speed or 1.0,
            cut_texts(options),
            tuple(f"{action.name} at {action.seconds:.1f} s" for action in video.missing),
        )
        names = [None if turns is None else turns.face for turns, _ in spoken]
        return make_report(output, planner.measures, self._segments.silent_motion, names)

    async def _mux(self, blocks: list[Block], source: SourceVideo, picture: OutputPicture) -> None:
        """Join the segments and the sound."""
        job, services = self._job, self._services
        numbers = (segment.number for block in blocks for segment in block.segments)
        segments = [segment_key(job.id, number, job.format) for number in numbers]
        made = OutputInfo.of(job, self._num_frames, picture)
        if services.config.jobs.max_revision_bytes > 0:
            earlier = await asyncio.to_thread(self._segments.earlier_sound)
            made = made._replace(pieces=sound_key(job.id), earlier_pieces=earlier)
        out = result_key(job.id, job.format)
        await services.stages.join(self._context, segments, all_parts(job), out, source, made)

    async def _complete_plan(self) -> None:
        """Find the speakers and speak the texts."""
        services = self._services
        await self._progress.enter(JobStage.SPEAKING)
        source = await services.avatars.source(self._job.avatar_key)
        self._job = await SpeakingStage(services).complete(self._job, source.info)

    async def _clip_times(self, graph: ClipGraph, speech: PreparedSpeech, own: PreparedSpeech) -> ClipTimes:
        """Return when which clips are shown; `speech` is all of it, and `own` that of the face.

        The times of the actions are stored.
        """
        stored = self._services.files.stored
        rows = await asyncio.to_thread(speech_rows, stored, own)
        if self._job.plan.actions is None:
            heard = rows if own.key == speech.key else await asyncio.to_thread(speech_rows, stored, speech)
            actions = await asyncio.to_thread(planned_actions, self._job, heard)
            self._job = self._job.model_copy(update={"plan": self._job.plan.model_copy(update={"actions": actions})})
            await self._progress.update(plan=self._job.plan)
        return ClipTimes(graph, rows, self._job.plan.actions or (), self._job.plan.seed)

    async def _speech_of_faces(self, speech: PreparedSpeech) -> list[_Spoken]:
        """The faces of the job, each with its speech; `speech` is that of the whole job."""
        job, turns = self._job, self._job.options.turns
        if turns is None:
            return [(None, speech)]
        faces = faces_of(turns)
        if len(faces[0].turns) == len(turns):
            return await self._with_levels([(faces[0], speech)])
        prepare, seconds = self._services.stages.prepare_speech, job.audio_seconds
        return await self._with_levels(
            [
                (face, await prepare(self._context, face.parts(job.id), face_speech_key(job.id, number), seconds))
                for number, face in enumerate(faces)
            ]
        )

    async def _with_levels(self, spoken: list[tuple[FaceTurns, PreparedSpeech]]) -> list[_Spoken]:
        """Give each face the level of the job that this one revises, if it is similar: all mouths depend on it."""
        plan = self._job.plan
        levels = {
            face.face or "": similar_level(speech.level, plan.speech_levels.get(face.face or ""))
            for face, speech in spoken
        }
        stored = {face: StoredLevel(gain=level.gain, speech_db=level.speech_db) for face, level in levels.items()}
        if stored != plan.speech_levels:
            self._job = self._job.model_copy(update={"plan": plan.model_copy(update={"speech_levels": stored})})
            await self._progress.update(plan=self._job.plan)
        return [(face, speech._replace(level=levels[face.face or ""])) for face, speech in spoken]

    async def _analysed_avatar(self, number: int, num: int, face: FaceTurns | None) -> AvatarRef:
        """The avatar of a face; the analysis is one of `num`, which follow each other."""
        job = self._job
        key = job.avatar_key if face is None or face.face is None else job.turn_avatar_keys[face.face]
        try:
            avatar = await self._services.avatars.ensure(
                key, job.options.engine, lambda share: self._progress.report_analysis((number + share) / num)
            )
        except FaceNotFoundError as error:
            if face is None:
                raise
            turn = (job.options.turns or ()).index(face.turns[0])
            raise FaceNotFoundError(f"turns[{turn}]: {error}") from error
        self._analysed.add(key)
        return avatar

    async def _check_people(self) -> None:
        """Check again that no two voices speak with one mouth: at submission, the people may not have been known.

        Raises:
            OptionError: They do.
        """
        job, services = self._job, self._services
        if job.options.turns is None:
            return
        avatar = await services.avatars.record(job.avatar_key)
        source = JobSource(avatar.source_sha256, avatar.face, job.owner)
        check_overlaps(await with_one_face_per_person(job.options.turns, source, services.avatars.people))

    async def _background(self, number: int, num: int, avatar: AvatarRef) -> Background | None:
        """What is behind the person. The matte of the source is made first; this is one of `num` analyses."""
        job, file = self._job, None
        if not job.plan.has_background:
            return None
        matte = await self._services.avatars.mattes.ensure(
            avatar, job.options.matte, lambda share: self._progress.report_analysis((number + share) / num)
        )
        if (sent := job.plan.background_file) is not None:
            key = job_file_key(job.id, "background")
            await asyncio.to_thread(self._services.files.check_size, key, sent.num_bytes)
            info = (await self._services.stages.probe(self._context, key, None)).video
            assert info is not None
            file = SourceVideo(key, info)
        return Background(matte, job.options.background, file, job.options.background_loop)

    def _plan_cache(self) -> PlanCache:
        config, engines = self._services.config, self._services.engines
        is_kept = config.jobs.max_revision_bytes > 0
        seconds = speech_context_seconds(engines.engine(self._job.options.engine)) if is_kept else None
        job_ids = [self._job.id, *self._segments.revised_jobs]
        return PlanCache(self._services.files.stored, job_ids, self._engine, seconds)

    async def _reserve_disk(self, picture: OutputPicture, seconds: float) -> None:
        """Reserve disk space for the duration of the result, which can exceed what the files declared.

        Raises:
            StorageFullError: The disk would not hold it beside what other jobs will need.
        """
        job, table = self._job, self._services.table
        needed = result_bytes(picture, seconds)
        if needed <= job.disk_bytes:
            return
        unfinished = await table.run_in_thread(table.unfinished_jobs)
        others = promised_bytes([other for other in unfinished if other.id != job.id])
        free_bytes = self._services.files.stored.free_bytes()
        free = needed if free_bytes is None else free_bytes - others - self._services.config.jobs.min_free_bytes
        if needed > free:
            raise StorageFullError(
                f"Not enough disk space for the result: needs {needed} bytes, {max(0, free)} are available."
            )
        await self._progress.update(result_seconds=seconds, disk_bytes=needed)

    async def _copied_ranges(
        self, planner: FacePlanner, source: SourceVideo, picture: OutputPicture
    ) -> list[tuple[int, int]]:
        """The ranges of frames that are copied from the source: nobody speaks in them, and nothing is drawn on them."""
        options = self._job.options
        is_drawn_on = visible_corners(options, self._services.config.labels) or options.subtitles == "burnt"
        if is_drawn_on or not picture.is_source(source.info) or not (unchanged := planner.unchanged()):
            return []
        keys = await self._services.stages.copyable_keys(self._context, source)
        return copied_ranges(keys, unchanged, round(_MAX_COPY_SECONDS * source.info.fps))


def similar_level(measured: SpeechLevel, earlier: StoredLevel | None) -> SpeechLevel:
    """Return the level of an earlier version of a speech, or the measured one if they differ by more than 1 dB.

    The level of a file depends on all of it: with one changed text, all mouths would change by a little.
    """
    if earlier is None:
        return measured
    gain_db = abs(20 * log10(measured.gain / earlier.gain))
    if max(gain_db, abs(measured.speech_db - earlier.speech_db)) > _SIMILAR_DB:
        return measured
    return replace(measured, gain=earlier.gain, speech_db=earlier.speech_db)
