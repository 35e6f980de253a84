"""Plans the faces of a job block by block, and turns the plans into requests for segments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lipwright.jobs.messages import (
    AvatarRef,
    BlockRequest,
    CropRequest,
    FacePlan,
    OutputPicture,
    PreparedSpeech,
    SegmentRequest,
    ShownBlock,
    behaviour_of,
)
from lipwright.jobs.model.plan import JobOptions
from lipwright.jobs.ports import Stages
from lipwright.jobs.segments.kept import PlanCache
from lipwright.jobs.segments.plan import Block, Segment
from lipwright.jobs.turns import FaceTurns, speaker_of_frames
from lipwright.media.phones import Closures
from lipwright.media.playback import Playback
from lipwright.telemetry.log_context import CallContext
from models.avatar.behaviour import TimedBehaviour, still_in_effect
from models.engines.protocol import FrameSpan
from models.mouth.closures import closures_near
from models.quality.measures import BlockMeasures


@dataclass(frozen=True)
class JobFace:
    """One face of a job: its avatar, what it says, and its weight in each frame, see `FacePlan`.

    `closures` are when its lips are known to close, in seconds of the job.
    """

    avatar: AvatarRef
    speech: PreparedSpeech
    weight: NDArray[np.float32] | None
    turns: FaceTurns | None = None
    closures: Closures = ()

    def is_shown(self, start: int, stop: int) -> bool:
        """Return whether any of the frames [start, stop) shows the generated face."""
        return self.weight is None or bool(self.weight[start:stop].any())


def behaviours_of(options: JobOptions, turns: FaceTurns | None, span: FrameSpan) -> tuple[TimedBehaviour, ...]:
    """Return how a still behaves in the frames of `span`, given the turns of its face."""
    usual = behaviour_of(options)
    changes = [TimedBehaviour(0.0, usual)]
    for turn in () if turns is None else turns.turns:
        if turn.start < span.stop_seconds:
            own = replace(usual, expression=turn.expression or usual.expression)
            changes.append(TimedBehaviour(turn.start, own))
    return still_in_effect(changes, span.start_seconds)


class PlannedFaces(NamedTuple):
    """The plans of one block, None for a face that it does not show."""

    block: Block
    plans: list[ShownBlock | None]
    has_copies: bool
    """Whether segments of the job are copied from the source."""


class FacePlanner:
    """Plans one or more faces of one source.

    Attributes:
        measures: The measures of each face over all planned blocks; None before a block shows it.
    """

    def __init__(
        self,
        stages: Stages,
        context: CallContext,
        options: JobOptions,
        faces: Sequence[JobFace],
        playback: Playback,
        num_frames: int,
        picture: OutputPicture,
        cache: PlanCache,
    ) -> None:
        """Prepare to plan a result of `num_frames`."""
        self._cache = cache
        self._picture = picture
        self._corners: NDArray[np.float32] | None = None
        self._stages, self._context, self._options = stages, context, options
        self._faces, self._playback, self._num_frames = faces, playback, num_frames
        self._source = faces[0].avatar.source
        self._has_copies = False
        self.measures: list[BlockMeasures | None] = [None] * len(faces)

    def unchanged(self) -> list[tuple[int, int]]:
        """Return the ranges [start, stop) of frames that show no generated face, in order."""
        shown = np.zeros(self._num_frames + 2, np.int8)
        shown[[0, -1]] = 1
        for face in self._faces:
            shown[1:-1] |= 1 if face.weight is None else face.weight > 0
        edges = np.flatnonzero(np.diff(shown))
        return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]

    async def follow(self, turns: Sequence[FaceTurns | None]) -> None:
        """Plan the path of the crop, if there is one; `turns` are those of the faces."""
        if not self._picture.framing.crops(self._source.info):
            return
        source = self._source.info
        index = self._playback.source_frames(range(self._num_frames), source.num_frames)
        speaker = speaker_of_frames(turns, self._num_frames, self._picture.info.fps)
        avatars = tuple(face.avatar for face in self._faces)
        request = CropRequest(avatars, source, self._options.engine, speaker, index, self._picture)
        self._corners = await self._stages.crop_path(self._context, request)

    async def plan(self, blocks: Sequence[Block]) -> AsyncGenerator[PlannedFaces]:
        """Yield the plans of each block; the next block is planned while this one is rendered."""
        self._has_copies = any(segment.is_copy for block in blocks for segment in block.segments)
        states: list[object] = [None] * len(self._faces)
        ahead = asyncio.create_task(self._plan_block(blocks[0], states))
        try:
            for number in range(len(blocks)):
                planned = await ahead
                self._measure(planned)
                if number + 1 < len(blocks):
                    states = [None if plan is None else plan.planned.state for plan in planned.plans]
                    ahead = asyncio.create_task(self._plan_block(blocks[number + 1], states))
                yield planned
        finally:
            ahead.cancel()

    def request(self, planned: PlannedFaces, segment: Segment) -> SegmentRequest:
        """Return the frames of a segment of a planned block, with the faces that it shows."""
        start, stop = segment.start - planned.block.start, segment.stop - planned.block.start
        shown, indices = [], []
        for face, plan in zip(self._faces, planned.plans, strict=True):
            if plan is not None and face.is_shown(segment.start, segment.stop):
                weight = None if face.weight is None else face.weight[segment.start : segment.stop].copy()
                shown.append(FacePlan(face.avatar, self._options.engine, plan.planned.plan.slice(start, stop), weight))
                indices.append(plan.shown[start:stop].copy())
        num_source_frames = self._source.info.num_frames
        own = self._playback.source_frames(range(segment.start, segment.stop), num_source_frames)
        corners = None if self._corners is None else self._corners[segment.start : segment.stop].copy()
        return SegmentRequest(
            self._source,
            indices[0] if indices else own,
            tuple(shown),
            planned.has_copies,
            segment.is_copy,
            self._picture,
            corners,
            segment.start,
        )

    async def _plan_block(self, block: Block, states: Sequence[object]) -> PlannedFaces:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._plan_face(block, face, state))
                for face, state in zip(self._faces, states, strict=True)
            ]
        return PlannedFaces(block, [task.result() for task in tasks], self._has_copies)

    async def _plan_face(self, block: Block, face: JobFace, state: object) -> ShownBlock | None:
        if not face.is_shown(block.start, block.stop):
            return None
        span = FrameSpan(self._picture.info.fps, block.start, block.stop - block.start, self._num_frames)
        request = BlockRequest(
            face.avatar,
            self._options.engine,
            span,
            self._playback.part(range(block.start, block.stop)),
            self._options.expressiveness,
            # All faces of a still would have to move alike, so with several it does not move.
            behaviours_of(self._options, face.turns, span) if len(self._faces) == 1 else (),
            closures_near(face.closures, span.start_seconds, span.stop_seconds),
        )
        return await self._cache.plan(
            face.speech, request, state, lambda: self._stages.plan(self._context, face.speech, request, state)
        )

    def _measure(self, planned: PlannedFaces) -> None:
        for number, plan in enumerate(planned.plans):
            if plan is not None:
                before = self.measures[number]
                self.measures[number] = plan.planned.measures if before is None else before + plan.planned.measures
