"""What backgrounds, framing and formats cost per frame: `python -m benchmarks.matting.pictures`.

CPU time of this process, all its threads, for making and encoding pictures of samples/presenter.mp4 enlarged to a size;
decoding and faces are left out, as they cost the same. The matte is drawn here: `python -m benchmarks.matting` measures
what it costs to make one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Final

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.material import SAMPLES
from config import MediaLimits, RenderConfig
from media.output.backdrop import Backdrop, BlurBackdrop, ColourBackdrop, VideoBackdrop
from media.output.cutout import Cutout
from media.output.formats import FORMATS, FormatName
from media.output.framing import OutputSize, output_info
from media.output.picture import PictureMaker, YuvaFrame
from media.playback import Playback
from media.probe import ColourTags, VideoInfo, probe_video
from media.reader import FrameReader
from media.writer import SegmentWriter
from media.yuv_frame import YuvFrame

_NUM_ROUNDS: Final = 5  # the median counts
_PQ: Final = ColourTags(matrix=9, full_range=False, primaries=9, transfer=16)


@dataclass(frozen=True)
class _Case:
    name: str
    format_name: FormatName = "mp4"
    size: OutputSize = OutputSize()
    background: str | None = None
    is_moving: bool = False


_CASES: Final = (
    _Case("as the source"),
    _Case("crop 9:16, at rest", size=OutputSize(aspect=Fraction(9, 16))),
    _Case("crop 9:16, moving", size=OutputSize(aspect=Fraction(9, 16)), is_moving=True),
    _Case("half the size", size=OutputSize(size=(0, 0))),
    _Case("background: colour", background="#00b140"),
    _Case("background: video", background="video"),
    _Case("background: HDR video", background="hdr"),
    _Case("background: blur", background="blur"),
    _Case("webm", "webm"),
    _Case("webm, transparent", "webm", background="transparent"),
    _Case("mov", "mov"),
    _Case("mov, transparent", "mov", background="transparent"),
)


def main(num_frames: Annotated[int, typer.Option(min=1, help="Frames of each measurement.")] = 50) -> None:
    """Prints CPU milliseconds per frame at 512x512 and 1920x1080."""
    cv2.setNumThreads(0)  # as in a replica
    print(f"{'CPU ms per frame':24}{'512x512':>10}{'1920x1080':>12}")
    material = [_frames(num_frames, *size) for size in ((512, 512), (1920, 1080))]
    for case in _CASES:
        costs = [_cost(case, info, frames) for info, frames in material]
        print(f"{case.name:24}{costs[0]:10.1f}{costs[1]:12.1f}", flush=True)


def _frames(num: int, width: int, height: int) -> tuple[VideoInfo, list[YuvaFrame]]:
    path = Path(SAMPLES) / "presenter.mp4"
    source = probe_video(path, MediaLimits())
    info = output_info(source, OutputSize((width, height)).framing(source), None)
    alpha = _matte(width, height)
    with FrameReader(path, source, 0) as reader:
        return info, [YuvaFrame.of(_resized(frame, width, height), alpha) for frame in reader.read(range(num))]


def _resized(frame: YuvFrame, width: int, height: int) -> YuvFrame:
    sizes = ((width, height), (width // 2, height // 2), (width // 2, height // 2))
    return YuvFrame(*(np.asarray(cv2.resize(plane, size), np.uint8) for plane, size in zip(frame, sizes, strict=True)))


def _matte(width: int, height: int) -> NDArray[np.uint8]:
    """A head and shoulders with a soft outline, a third of the frame."""
    alpha = np.zeros((height, width), np.uint8)
    cv2.ellipse(alpha, (width // 2, height * 2 // 5), (height // 5, height // 4), 0, 0, 360, 255, -1)
    cv2.ellipse(alpha, (width // 2, height), (height * 2 // 5, height // 3), 0, 0, 360, 255, -1)
    return np.asarray(cv2.GaussianBlur(alpha, (0, 0), height / 270), np.uint8)


def _cost(case: _Case, info: VideoInfo, frames: Sequence[YuvaFrame]) -> float:
    render, costs = RenderConfig(), []
    size = OutputSize((info.width // 4 * 2, info.height // 4 * 2)) if case.size.size == (0, 0) else case.size
    framing = size.framing(info)
    corners = np.zeros((len(frames), 2), np.float32)
    corners[:, 0] = np.linspace(10.25, 20.25, len(frames)) if case.is_moving else 10
    for _ in range(_NUM_ROUNDS):
        cutout = None if case.background is None else Cutout(_backdrop(case.background, info, frames))
        maker = PictureMaker(framing, corners if framing.crops(info) else None, cutout)
        writer = SegmentWriter(
            output_info(info, framing, None),
            render.crf,
            render.preset,
            file_format=FORMATS[case.format_name],
            has_alpha=case.background == "transparent",
            draw=maker.draw,
        )
        start = time.process_time()
        for frame in frames:
            writer.write(frame if case.background else YuvFrame(*frame))
        writer.finish()
        costs.append((time.process_time() - start) * 1000 / len(frames))
    return statistics.median(costs)


class _Repeated:
    """A `FrameSource` of frames in memory."""

    def __init__(self, frames: Sequence[YuvFrame]) -> None:
        self._frames = frames

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        """Yields frames in the order of `indices`."""
        return (self._frames[index] for index in indices)

    def close(self) -> None:
        """Does nothing."""


def _backdrop(name: str, info: VideoInfo, frames: Sequence[YuvFrame]) -> Backdrop | None:
    if name == "transparent":
        return None
    if name in ("video", "hdr"):
        own = replace(info, colour=_PQ) if name == "hdr" else info
        return VideoBackdrop(_Repeated(frames[::-1]), own, info.colour, Playback("loop"), range(len(frames)))
    return BlurBackdrop() if name == "blur" else ColourBackdrop(name, info.colour)


if __name__ == "__main__":
    typer.run(main)
