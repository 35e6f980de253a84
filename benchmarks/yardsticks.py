"""Reference costs in one process: decoding and encoding alone, the floor that any implementation has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
from av.video.frame import PictureType

from benchmarks.material import FPS
from lipwright.config import RenderConfig


class Yardsticks(NamedTuple):
    """Reference costs in CPU ms per frame.

    Attributes:
        floor: Decoding and encoding with the settings of a job.
        veryfast: The same with x264's `veryfast` and CRF 20, independent of the job settings.
    """

    floor: float
    veryfast: float

    @classmethod
    def measure(cls, video: Path, num_frames: int) -> Yardsticks:
        """Measures both for `num_frames` of `video`."""
        settings = RenderConfig(), RenderConfig(crf=20, preset="veryfast")
        return cls(*(floor_cpu_ms(video, num_frames, each) for each in settings))

    def as_json(self) -> dict[str, float]:
        """Returns the values for `benchmarks/results.json`."""
        return {f"{name}_cpu_ms_per_frame": round(ms, 2) for name, ms in self._asdict().items()}


def floor_cpu_ms(video: Path, num_frames: int, render: RenderConfig) -> float:
    """Returns CPU ms per frame of decoding `num_frames` of `video`, in a loop, and encoding them unchanged.

    Same encoder, CRF, preset and threads as in a job; forward only, one copy less, one file instead of segments.
    """
    start = time.process_time()
    with av.open("/dev/null", "w", format="mp4") as target:
        options = {"crf": str(render.crf), "preset": render.preset}
        encoder = target.add_stream("libx264", rate=FPS, options=options)
        encoder.codec_context.thread_count = 1
        encoder.codec_context.time_base = Fraction(1, FPS)
        for number, frame in enumerate(islice(decoded_frames(video), num_frames)):
            if number == 0:
                encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuv420p"
            frame.pict_type, frame.pts, frame.time_base = PictureType.NONE, number, Fraction(1, FPS)
            target.mux(encoder.encode(frame))
        target.mux(encoder.encode(None))
    return (time.process_time() - start) * 1000 / num_frames


def decoded_frames(video: Path) -> Iterator[av.VideoFrame]:
    """Yields the frames of a video in a loop, decoded with one thread."""
    while True:
        with av.open(str(video)) as source:
            source.streams.video[0].codec_context.thread_count = 1
            yield from source.decode(source.streams.video[0])
