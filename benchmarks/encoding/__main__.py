"""What encoders make of results: `python -m benchmarks.encoding CLIP... --size 512x512`.

Real clips with generated mouths and the invisible watermark are encoded as one segment of a job. CPU time is that of
this process, all its threads; costs are relative to `balanced`, encoded before and after each other row.
Scores compare with the pictures that the encoder was given: PSNR and SSIM of luma, in the whole frame and in the
rectangle around the generated pixels; and how much of the detail finer than 1.5 pixels is left in the half of the frame
that has least of it, such as skin and walls. All are means over the clips.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.encoding.pictures import Pictures, make_pictures
from benchmarks.encoding.scores import Scores, score
from config import MediaLimits, RenderConfig
from media.output.formats import MOV, MP4, QUALITIES, WEBM, OutputFormat, Quality
from media.output.sizes import parse_size
from media.probe import probe_video
from media.writer import SegmentWriter

_PRESETS: Final = ("ultrafast", "superfast", "veryfast", "faster", "medium", "slow")
_CRFS: Final = (17, 20, 23)
_VP9: Final[Mapping[str, str]] = {"b": "0", "row-mt": "1", "auto-alt-ref": "0", "deadline": "good"}


@dataclass(frozen=True)
class _Custom(OutputFormat):
    """A format with other options of the encoder."""

    options: Mapping[str, str]

    def encoder_options(self, crf: int, preset: str, quality: Quality = "balanced") -> dict[str, str]:
        return dict(self.options)


class Case(NamedTuple):
    """How a segment is encoded."""

    name: str
    file_format: OutputFormat
    quality: Quality = "balanced"
    crf: int | None = None  # of a preset's curve


class Encoded(NamedTuple):
    """One segment of one clip."""

    cpu_ratio: float  # to the first case
    cpu_ms: float  # per frame
    num_bytes: float  # per frame
    scores: Scores


def main(
    clips: Annotated[list[Path], typer.Argument(help="Videos with a face; portrait videos turn the size.")],
    size: Annotated[str, typer.Option(help="Size of the pictures.")] = "512x512",
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of the segment.")] = 2.0,
) -> None:
    """Print tables of settings, of presets at the same quality of the mouth, and of WebM and MOV."""
    cv2.setNumThreads(0)  # as in a replica
    found = [(case, list[Encoded]()) for case in (*_h264(), *_others())]
    for clip in clips:
        info, whole = probe_video(clip, MediaLimits()), parse_size(size)
        pictures = make_pictures(clip, whole[::-1] if info.height > info.width else whole, seconds)
        _encode(found[0][0], pictures)  # the first one also allocates
        for case, results in found:
            results.append(_measured(case, pictures))
        print(f"{pictures.name}: {len(pictures.frames)} frames", flush=True)
    first = found[0][1]
    table = Table(
        "setting", "CPU ms", "CPU", "kB", "bytes", "frame: PSNR", "SSIM", "mouth: PSNR", "SSIM", "detail left"
    )
    for case, results in found:
        table.add_row(case.name, *_row(results, first))
    Console(width=140).print(f"{size}, {len(clips)} clips, per frame:", table)
    curves = Table("x264 preset", "CPU", "bytes", title="at the SSIM of the mouth that balanced has")
    for preset in _PRESETS:
        curve = [results for case, results in found if case.crf is not None and case.name.startswith(preset)]
        curves.add_row(preset, *(f"x {value:.2f}" for value in _at_equal_similarity(curve, first)))
    Console().print(curves)


def _h264() -> list[Case]:
    balanced, fast, best = (Case(name, MP4, name) for name in ("balanced", "fast", "best"))
    presets = [
        Case(f"{preset}, crf {crf}", _custom(MP4, MP4.encoder_options(crf, preset)), crf=crf)
        for preset in _PRESETS
        for crf in _CRFS
    ]
    return [balanced, fast, best, *presets]


def _others() -> list[Case]:
    qualities = [Case(f"webm {quality}", WEBM, quality) for quality in QUALITIES]
    good = [
        Case(f"VP9 good {speed}, crf {crf}", _custom(WEBM, {**_VP9, "cpu-used": str(speed), "crf": str(crf)}))
        for speed, crf in ((5, 31), (5, 24), (3, 24))
    ]
    return [*qualities, *good, Case("mov", MOV)]


def _custom(file_format: OutputFormat, options: Mapping[str, str]) -> _Custom:
    known = {each.name: getattr(file_format, each.name) for each in fields(OutputFormat)}
    return _Custom(**known, options=options)


def _measured(case: Case, pictures: Pictures) -> Encoded:
    balanced, num = _h264()[0], len(pictures.frames)
    before_ms = _encode(balanced, pictures)[1]
    content, cpu_ms = _encode(case, pictures)
    after_ms = _encode(balanced, pictures)[1]
    return Encoded(2 * cpu_ms / (before_ms + after_ms), cpu_ms / num, len(content) / num, score(content, pictures))


def _encode(case: Case, pictures: Pictures) -> tuple[bytes, float]:
    """Returns the segment and the CPU ms."""
    render = RenderConfig()
    writer = SegmentWriter(pictures.info, render.crf, render.preset, quality=case.quality, file_format=case.file_format)
    start = time.process_time()
    for frame in pictures.frames:
        writer.write(frame)
    return writer.finish(), (time.process_time() - start) * 1000


def _row(results: Sequence[Encoded], first: Sequence[Encoded]) -> list[str]:
    scores = np.mean([each.scores for each in results], axis=0)
    return [
        f"{statistics.mean(each.cpu_ms for each in results):.2f}",
        f"x {statistics.geometric_mean(each.cpu_ratio for each in results):.2f}",
        f"{statistics.mean(each.num_bytes for each in results) / 1000:.2f}",
        f"x {_bytes_ratio(results, first):.2f}",
        *(f"{value:.{digits}f}" for value, digits in zip(scores, (1, 4, 1, 4, 2), strict=True)),
    ]


def _bytes_ratio(results: Sequence[Encoded], first: Sequence[Encoded]) -> float:
    ratios = (made.num_bytes / reference.num_bytes for made, reference in zip(results, first, strict=True))
    return statistics.geometric_mean(ratios)


def _at_equal_similarity(curve: Sequence[Sequence[Encoded]], first: Sequence[Encoded]) -> tuple[float, float]:
    """Returns the CPU time and bytes, relative to `first`, of a preset with the same SSIM of the mouth.

    Interpolated between the values of crf; the next one counts for a clip whose SSIM none reaches.
    """
    costs = []
    for clip, reference in enumerate(first):
        points = sorted((each[clip] for each in curve), key=lambda each: each.scores.mouth_similarity)
        known = [each.scores.mouth_similarity for each in points]
        logs = [(np.log(each.cpu_ratio), np.log(each.num_bytes / reference.num_bytes)) for each in points]
        costs.append(
            [np.interp(reference.scores.mouth_similarity, known, column) for column in zip(*logs, strict=True)]
        )
    cpu, num_bytes = np.exp(np.mean(costs, axis=0))
    return float(cpu), float(num_bytes)


if __name__ == "__main__":
    typer.run(main)
