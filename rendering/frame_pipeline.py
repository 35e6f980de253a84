"""The frame loop of jobs and live sessions: decode, crop, generate, paste and encode, all steps in parallel."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from media.cancel_token import CancelToken
from media.frame_source import FrameSource
from media.yuv_frame import Patch, YuvFrame
from models.engines.patches import FacePatches
from models.engines.protocol import Chunk, Plan
from models.mouth.motion import RunningStats

T = TypeVar("T")


@dataclass(frozen=True)
class RenderSource:
    """Source frames, and the engine that crops faces out of them."""

    reader: FrameSource  # reads the avatar's frames
    engine: str  # name of the engine that generates the faces
    cut: Callable[[Plan, list[YuvFrame]], Chunk]  # `Engine.cut` of this avatar


class PictureWriter(Protocol):
    """Takes finished frames in order: `media.writer.SegmentWriter`, `media.live.gop_encoder.GopEncoder`."""

    def write(self, planes: YuvFrame, patch: Patch | None = None) -> None:
        """Encode one frame with its face; `planes` is not modified."""
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

    async def render(self, source: RenderSource, plan: Plan, writer: PictureWriter, chunk_frames: int) -> RunningStats:
        """Pass the frames of `plan`, with their faces and in order, to `writer`, which one thread at a time uses.

        When this raises or is cancelled, none of its work is still running.

        Returns:
            The mouth's motion in silence, see `FacePatches.silent_motion`.
        """
        window, motion = deque[asyncio.Task[RunningStats]](), RunningStats()
        generated: list[asyncio.Future[FacePatches]] = []
        written: asyncio.Task[RunningStats] | None = None
        try:
            for start in range(0, len(plan), chunk_frames):
                piece = plan.slice(start, min(start + chunk_frames, len(plan)))
                frames, chunk = await self._run(partial(_decode_and_cut, source, piece), len(piece))
                patches = self._generate(source.engine, chunk)
                generated = [*generated[-self._window :], patches]
                written = asyncio.create_task(self._write_after(written, writer, frames, patches))
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
        patches: asyncio.Future[FacePatches],
    ) -> RunningStats:
        """Encode `frames` with their faces once the faces and all earlier frames are done."""
        try:
            faces = await patches
            if before is not None:
                await asyncio.wait([before])
                before.result()
        except BaseException:
            patches.cancel()
            raise

        def encode(token: CancelToken) -> None:
            for number, frame in enumerate(frames):
                writer.write(frame, faces.patch(number))

        await self._run(encode, len(frames))
        return faces.silent_motion


def _decode_and_cut(source: RenderSource, plan: Plan, token: CancelToken) -> tuple[list[YuvFrame], Chunk]:
    with token.on_cancel(source.reader.close):
        frames = list(source.reader.read(plan.source_index.tolist()))
    return frames, source.cut(plan, frames)
