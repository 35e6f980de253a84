"""Finished pictures of jobs, as encoders are given them: real clips with generated mouths and watermark."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.analysis import analyse, plan_speech
from benchmarks.material import SAMPLES
from config import MediaLimits, RenderConfig
from media.probe import VideoInfo, probe_video
from media.reader import FrameReader
from media.watermark.code import IDENTIFIER_BYTES
from media.watermark.embedder import InvisibleWatermark
from media.yuv_frame import YuvFrame, paste_back
from models.engines.protocol import ComputeResources


class Box(NamedTuple):
    """A part of a picture, in luma pixels."""

    x0: int
    y0: int
    x1: int
    y1: int

    @classmethod
    def whole(cls, luma: NDArray[np.uint8]) -> Box:
        """Returns the whole picture."""
        return cls(0, 0, luma.shape[1], luma.shape[0])

    def of(self, luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns that part of a picture."""
        return luma[self.y0 : self.y1, self.x0 : self.x1]


@dataclass(frozen=True)
class Pictures:
    """The frames of one segment."""

    name: str
    info: VideoInfo
    frames: list[YuvFrame]
    mouths: list[Box | None]  # around the generated pixels of each frame


def make_pictures(clip: Path, size: tuple[int, int], seconds: float) -> Pictures:
    """Renders samples/speech.wav with the face in `clip`, scaled and cropped to `size`, without encoding it."""
    with tempfile.TemporaryDirectory(prefix="lipwright-encoding-") as name:
        folder = Path(name)
        cached, _ = analyse(_resized(clip, size, folder), folder / "avatar")
        plan, avatar = plan_speech(cached, SAMPLES / "speech.wav", seconds, folder), cached.avatar
        generator, mark = cached.engine.face_generator(ComputeResources()), InvisibleWatermark(avatar.info, _IDENTIFIER)
        frames, mouths = list[YuvFrame](), list[Box | None]()
        with FrameReader(cached.video, avatar.info, RenderConfig().reader_cache_bytes) as reader:
            for start in range(0, len(plan), RenderConfig().chunk_frames):
                piece = plan.slice(start, min(start + RenderConfig().chunk_frames, len(plan)))
                shown = list(avatar.frames(reader).read(piece.source_index.tolist()))
                patches = generator.generate(cached.engine.crop(avatar, piece, shown))
                for number, frame in enumerate(shown):
                    made, patch = YuvFrame(*(plane.copy() for plane in frame)), patches.patch(number)
                    if patch is not None:
                        paste_back(made, patch)
                    mouths.append(_changed(frame.y, made.y))
                    mark.draw(made)
                    frames.append(made)
        return Pictures(clip.stem, avatar.info, frames, mouths)


_IDENTIFIER = bytes(IDENTIFIER_BYTES)
_CRF = "8"  # of the scaled clip: nearly lossless


def _resized(clip: Path, size: tuple[int, int], folder: Path) -> Path:
    """Writes the clip so that it fills `size`, cropped at its edges, below or beside the face."""
    info, path = probe_video(clip, MediaLimits()), folder / "clip.mp4"
    if (info.width, info.height) == size:
        return clip
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=info.fps, options={"crf": _CRF, "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for picture in _filled(clip, size):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def _filled(clip: Path, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Yields (H, W, 3) RGB pictures of that size; the upper edge is kept."""
    with av.open(str(clip)) as source:
        for frame in source.decode(video=0):
            rgb = frame.to_ndarray(format="rgb24")
            scale = max(size[0] / rgb.shape[1], size[1] / rgb.shape[0])
            kernel = cv2.INTER_AREA if scale < 1 else cv2.INTER_LANCZOS4
            wide = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=kernel)
            left = (wide.shape[1] - size[0]) // 2
            padded = cv2.copyMakeBorder(wide, 0, 2, 0, 2, cv2.BORDER_REPLICATE)  # a scale can round down
            yield np.ascontiguousarray(padded[: size[1], left : left + size[0]], np.uint8)


def _changed(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Box | None:
    rows, columns = np.nonzero(before != after)
    return Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else None
