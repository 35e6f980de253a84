"""Cost of labels: `python -m benchmarks.labels`.

Prints the time and the bytes that tags, a signed manifest and the visible watermark add on this machine.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from config import LabelsConfig, MediaLimits
from media.audio_parts import AudioPart
from media.labels.inspection import inspect_labels
from media.labels.labeller import Labeller
from media.labels.signer import Provenance
from media.labels.watermark import Watermark, WatermarkStyle
from media.probe import ColourTags, VideoInfo
from media.result.concat import concat_segments
from media.result.sound_mix import ResultSound
from media.writer import SegmentWriter
from media.yuv_frame import YuvFrame
from tests.unit.api.tts.speech_server import tone

NUM_TRIES = 5
NUM_DRAWN = 100
SIZES = ((512, 512, 250), (1920, 1080, 250), (1920, 1080, 1500))


def _info(width: int, height: int, num_frames: int) -> VideoInfo:
    colour = ColourTags(1, False, 1, 1)
    seconds = num_frames / 25
    return VideoInfo(
        width, height, Fraction(25), num_frames, seconds, 0, False, False, colour, "h264", "yuv420p", False
    )


def _milliseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(NUM_TRIES):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def _segment(info: VideoInfo, out: Path) -> None:
    """Writes noise, which compresses badly, to get a large file quickly."""
    random = np.random.default_rng(0)
    shapes = [(info.height, info.width), *[(info.height // 2, info.width // 2)] * 2]
    pictures = [YuvFrame(*(random.integers(64, 192, shape, np.uint8) for shape in shapes)) for _ in range(5)]
    writer = SegmentWriter(info, 40, "ultrafast", 2)
    for number in range(info.num_frames):
        writer.write(pictures[number % 5])
    out.write_bytes(writer.finish())


def _measure(info: VideoInfo, folder: Path) -> str:
    segment, sound, plain, tagged = (folder / name for name in ("s.mp4", "a.wav", "plain.mp4", "tagged.mp4"))
    _segment(info, segment)
    sound.write_bytes(tone(info.duration_seconds))
    labeller = Labeller(LabelsConfig(), folder)
    concat_segments([segment], ResultSound([AudioPart(sound)]), plain, info, info.num_frames)
    concat_segments(
        [segment], ResultSound([AudioPart(sound)]), tagged, info, info.num_frames, tags=labeller.tags("0" * 32)
    )
    content = tagged.read_bytes()

    def write_and_sign() -> None:
        tagged.write_bytes(content)
        labeller.sign(tagged, Provenance(from_still=False))

    signing = _milliseconds(write_and_sign)
    writing = _milliseconds(lambda: tagged.write_bytes(content))
    labeller.sign(tagged, Provenance(from_still=False))
    reading = _milliseconds(lambda: inspect_labels(tagged, MediaLimits()))
    planes = YuvFrame(
        *(
            np.full(shape, 90, np.uint8)
            for shape in ((info.height, info.width), *[(info.height // 2, info.width // 2)] * 2)
        )
    )
    mark = Watermark(info, WatermarkStyle("en", 0.05), ("bottom_right",))

    def draw() -> None:
        for _ in range(NUM_DRAWN):
            mark.draw(planes)

    marking = _milliseconds(draw) / NUM_DRAWN
    manifest_bytes = tagged.stat().st_size - len(content)
    return (
        f"{info.width}x{info.height}, {info.num_frames} frames, {len(content) / 1e6:.1f} MB: tags "
        f"{len(content) - plain.stat().st_size} bytes; manifest {manifest_bytes} bytes, signed in "
        f"{signing - writing:.0f} ms, read in {reading:.0f} ms; visible watermark {1000 * marking:.0f} us per frame"
    )


def main() -> None:
    """Measures several sizes."""
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            print(_measure(_info(*size), Path(folder)), flush=True)


if __name__ == "__main__":
    main()
