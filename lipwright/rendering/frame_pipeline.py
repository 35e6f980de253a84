"""The frame loop of jobs: decode, crop, generate, paste and encode, all steps in parallel."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from lipwright.media.cancel_token import CancelToken
from lipwright.media.frame_source import FrameSource
from lipwright.media.yuv_frame import Patch, YuvFrame, faded
from models.engines.patches import FacePatches
from models.engines.protocol import Chunk, Plan
from models.mouth.motion import RunningStats
from models.track.occluders import Occluders

T = TypeVar("T")


@dataclass(frozen=True)
class PlannedFace:
    """One face in T output frames."""

    engine: str  # name of the engine that generates it
    crop: Callable[[Plan, list[YuvFrame]], Chunk]  # `Engine.crop` of its avatar
    plan: Plan  # what it shows in T frames
    weight: NDArray[np.float32] | None = None  # (T,) 1: the generated face, 0: the source's own; None: 1 everywhere
    occluders: Occluders | None = None  # what stays in front of it; None: nothing

    def slice(self, start: int, stop: int) -> Self:
        """Return the face in frames [start, stop)."""
        weight = None if self.weight is None else self.weight[start:stop]
        return replace(self, plan=self.plan.slice(start, stop), weight=weight)

    @property
    def is_shown(self) -> bool:
        """Whether any frame shows it."""
        return self.weight is None or bool(self.weight.any())

    def chunk(self, frames: list[YuvFrame]) -> Chunk:
        """Cut it out of the T frames, without what is in front of it."""
        whole = frames if self.occluders is None else self.occluders.without(self.plan.source_index, frames)
        return self.crop(self.plan, whole)

    def shown_patch(self, frame: YuvFrame, number: int, patches: FacePatches) -> Patch | None:
        """Return its patch in frame `number`: behind what is in front of it, and blended by its weight."""
        weight = 1.0 if self.weight is None else float(self.weight[number])
        patch = patches.patch(number) if weight > 0 else None
        if patch is None:
            return None
        if self.occluders is not None:
            patch = self.occluders.in_front(int(self.plan.source_index[number]), frame, patch)
        return patch if weight >= 1 else faded(frame, patch, weight)


class PictureWriter(Protocol):
    """Takes finished frames in order: `SegmentWriter` and `LiveEncoder` of `lipwright.media`."""

    def write(self, planes: YuvFrame, patches: Sequence[Patch] = ()) -> None:
        """Encode one frame with its faces; `planes` is not modified."""
        ...


class GenerateFaces(Protocol):
    """Generates the faces of a chunk: a deployment behind a handle, or a face generator in this process."""

    def __call__(self, engine: str, chunk: Chunk) -> asyncio.Future[FacePatches]:
        """Start, and return a future that can be awaited or cancelled."""
        ...


class BlockingWork(Protocol):
    """Runs blocking work in a thread, with a timeout derived from the number of frames."""

    async def __call__(self, work: Callable[[CancelToken], T], num_frames: int) -> T:
        """Return the result of `work`."""
        ...


class FramePipeline:
    """Generates faces in a window of un-awaited calls, 1 or more, while the next chunk is decoded."""

    def __init__(self, generate: GenerateFaces, run: BlockingWork, window: int) -> None:
        self._generate, self._run, self._window = generate, run, window

    async def render(
        self,
        reader: FrameSource,
        source_index: NDArray[np.integer],
        faces: Sequence[PlannedFace],
        writer: PictureWriter,
        chunk_frames: int,
    ) -> RunningStats:
        """Pass the (T,) source frames, with their faces and in order, to `writer`, which one thread at a time uses.

        When this raises or is cancelled, none of its work is still running.

        Returns:
            The mouths' motion in silence, see `FacePatches.silent_motion`.
        """
        window, motion = deque[asyncio.Task[RunningStats]](), RunningStats()
        generated: list[asyncio.Future[FacePatches]] = []
        written: asyncio.Task[RunningStats] | None = None
        try:
            for start in range(0, len(source_index), chunk_frames):
                stop = min(start + chunk_frames, len(source_index))
                shown = [piece for face in faces if (piece := face.slice(start, stop)).is_shown]
                frames, chunks = await self._run(
                    partial(_decode_and_crop, reader, source_index[start:stop], shown), stop - start
                )
                patches = [self._generate(face.engine, chunk) for face, chunk in zip(shown, chunks, strict=True)]
                generated = [*generated[-self._window * len(faces) :], *patches]
                written = asyncio.create_task(self._write_after(written, writer, frames, shown, patches))
                window.append(written)
                if len(window) >= self._window:
                    motion += await window.popleft()
            while window:
                motion += await window.popleft()
            return motion
        except BaseException:
            # Cancel the faces, too: a task that is cancelled before its first step does not cancel what it awaits.
            left: list[asyncio.Future[Any]] = [*window, *generated]
            for future in left:
                future.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            raise

    async def _write_after(
        self,
        before: asyncio.Task[RunningStats] | None,
        writer: PictureWriter,
        frames: list[YuvFrame],
        faces: Sequence[PlannedFace],
        patches: Sequence[asyncio.Future[FacePatches]],
    ) -> RunningStats:
        """Encode `frames` with their faces once the faces and all earlier frames are done."""
        try:
            generated = [await each for each in patches]
            if before is not None:
                await asyncio.wait([before])
                before.result()
        except BaseException:
            for each in patches:
                each.cancel()
            raise

        def encode(token: CancelToken) -> None:
            for number, frame in enumerate(frames):
                writer.write(frame, _shown_patches(frame, number, faces, generated))

        await self._run(encode, len(frames))
        return sum((face.silent_motion for face in generated), RunningStats())


def _decode_and_crop(
    reader: FrameSource, source_index: NDArray[np.integer], faces: Sequence[PlannedFace], token: CancelToken
) -> tuple[list[YuvFrame], list[Chunk]]:
    with token.on_cancel(reader.close):
        frames = list(reader.read(source_index.tolist()))
    return frames, [face.chunk(frames) for face in faces]


def _shown_patches(
    frame: YuvFrame, number: int, faces: Sequence[PlannedFace], generated: Sequence[FacePatches]
) -> list[Patch]:
    """Return the patches of frame `number`."""
    patches = (face.shown_patch(frame, number, each) for face, each in zip(faces, generated, strict=True))
    return [patch for patch in patches if patch is not None]
