"""CPU time of each step of a frame in one process: `python -m benchmarks.cpu_profile.steps`.

Beside each step stands a lower bound, measured in the same run: the codec alone, or the bytes that the step must move.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import cache
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.analysis import AnalysedAvatar, analyse, plan_speech
from benchmarks.cpu_profile.measure import Step, cost, drain, print_steps
from benchmarks.material import make_avatar, make_speech
from benchmarks.render import SIZES
from benchmarks.yardsticks import decoded_frames
from config import RenderConfig
from media.decoding.frame_buffers import FrameBuffer, write_frame
from media.decoding.malloc_tuning import retain_freed_buffers
from media.reader import FrameReader
from media.watermark.code import IDENTIFIER_BYTES
from media.watermark.embedder import InvisibleWatermark
from media.writer import SegmentWriter
from media.yuv_frame import Patch, YuvFrame
from models.engines.protocol import Chunk, ComputeResources, Plan

_SECONDS = 4.0


def main() -> None:
    """Prints a table for each size."""
    cv2.setNumThreads(0)  # as in a replica
    retain_freed_buffers()
    for width, height in SIZES:
        with tempfile.TemporaryDirectory(prefix="lipwright-profile-") as folder:
            steps = _measure(make_avatar(width, height, _SECONDS, Path(folder)), Path(folder))
        print_steps(f"{width}x{height}, one process", steps)


def _measure(video: Path, folder: Path) -> list[Step]:
    cached, _ = analyse(video, folder / "avatar")
    plan, info = plan_speech(cached, make_speech(_SECONDS, folder), _SECONDS, folder), cached.avatar.info
    num = len(plan)
    with FrameReader(video, info, RenderConfig().reader_cache_bytes) as reader:
        frames = [_copied(frame) for frame in cached.avatar.frames(reader).read(plan.source_index.tolist())]
    pieces = [(at, min(at + RenderConfig().chunk_frames, num)) for at in range(0, num, RenderConfig().chunk_frames)]
    cut = [_cutter(cached, plan, frames, piece) for piece in pieces]
    chunks: list[Chunk] = [each() for each in cut]
    generator = cached.engine.face_generator(ComputeResources())
    patches = [generator.generate(chunk) for chunk in chunks]
    shown = [patch for each in patches for k in range(len(each)) if (patch := each.patch(k)) is not None]
    crop = sum(plane.nbytes for plane in shown[0].planes)
    frame, luma = sum(plane.nbytes for plane in frames[0]), frames[0].y.nbytes
    decode = cost(num, lambda: drain(islice(decoded_frames(video), num)))
    plain = cost(num, lambda: _encode(cached, frames, shown, marked=False))
    marked = cost(num, lambda: _encode(cached, frames, shown, marked=True))
    draw = cost(num, lambda: _draw(cached, frames))
    return [
        Step("decode", decode, decode, "FFmpeg alone, one thread"),
        Step("hand over to Studio", cost(num, lambda: _hand_over(frames)), _copy(frame), "one copy of the frame"),
        Step("cut", cost(num, lambda: drain(each() for each in cut)), _copy(crop), "one copy of the crop"),
        Step(
            "generate the face",
            cost(num, lambda: drain(generator.generate(chunk) for chunk in chunks)),
            cost(num, lambda: [_sample(patch) for patch in shown]),
            "every pixel of the crop sampled once",
        ),
        Step("paste and encode", plain, plain, "x264, and one copy of the frame"),
        Step("draw the invisible watermark", draw, _copy(luma), "one copy of the luma"),
        Step("encode the watermark", max(marked - plain - draw, 0), 0, "without it"),
    ]


def _cutter(cached: AnalysedAvatar, plan: Plan, frames: list[YuvFrame], piece: tuple[int, int]) -> Callable[[], Chunk]:
    """Returns a function that cuts the faces of frames [first, stop)."""
    start, stop = piece
    return lambda: cached.engine.crop(cached.avatar, plan.slice(start, stop), frames[start:stop])


def _copy(num_bytes: int) -> float:
    """Returns the CPU ms of a copy of that size, out of 64 MiB, which are in no cache."""
    source = np.ones((max(2**26 // num_bytes, 1), num_bytes), np.uint8)
    target = np.zeros_like(source[0])

    def copy() -> None:
        for row in source:
            np.copyto(target, row)

    return cost(len(source), copy)


def _hand_over(frames: list[YuvFrame]) -> None:
    num_bytes = sum(plane.nbytes for plane in frames[0])
    buffer = FrameBuffer(num_bytes)
    for frame in frames:
        os.lseek(buffer.number, 0, os.SEEK_SET)
        write_frame(buffer.number, frame)


def _sample(patch: Patch) -> list[NDArray[np.uint8]]:
    kernels = cv2.INTER_CUBIC, cv2.INTER_LINEAR, cv2.INTER_LINEAR
    return [
        np.asarray(cv2.remap(plane, *_places(plane.shape), kernel), np.uint8)
        for plane, kernel in zip(patch.planes, kernels, strict=True)
    ]


@cache
def _places(shape: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows, columns = np.indices(shape, np.float32) + np.float32(0.3)
    return columns, rows


def _encode(cached: AnalysedAvatar, frames: list[YuvFrame], patches: list[Patch], marked: bool) -> None:
    mark = InvisibleWatermark(cached.avatar.info, bytes(IDENTIFIER_BYTES))
    writer = SegmentWriter(cached.avatar.info, RenderConfig().crf, RenderConfig().preset)
    for frame, patch in zip(frames, patches, strict=True):
        writer.write(frame, [patch], [mark] if marked else [])
    writer.finish()


def _draw(cached: AnalysedAvatar, frames: list[YuvFrame]) -> None:
    mark, target = InvisibleWatermark(cached.avatar.info, bytes(IDENTIFIER_BYTES)), _copied(frames[0])
    for _ in frames:
        mark.draw(target)


def _copied(frame: YuvFrame) -> YuvFrame:
    return YuvFrame(*(plane.copy() for plane in frame))


if __name__ == "__main__":
    main()
