"""Mouth movement in silence: `python -m benchmarks.silence --judge FOLDER --clips FOLDER`.

Renders clips of speakers with silent audio, in this process and without the service, and measures the remaining mouth
movement with an independent evaluator (the judge). Uses only the first seconds of each clip. Updates
benchmarks/silence.json; results under other labels are kept. The judge and the clips are not part of this repository
(benchmarks/README.md).
"""

from __future__ import annotations

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import av
import numpy as np
import typer

from benchmarks.analysis import analyse
from benchmarks.in_process import render_staged
from benchmarks.judge import Judge
from benchmarks.material import Clip, find_clips
from benchmarks.media_files import write_film, write_wav
from benchmarks.report import number, print_table
from media.audio import SPEECH_SAMPLE_RATE

RESULTS = Path(__file__).with_name("silence.json")
Figures = dict[str, float | None]  # by heading
_MAX_SIDE = 960  # side of an excerpt in pixels, as in the judge's material
# Columns: heading, block and metric of the judge.
_FIGURES = (
    ("opening, spread", "motion", "open_std"),
    ("share of frames open", "lipleak", "open_frac_silent"),
    ("opening, mean", "motion", "open_mean"),
    ("speed of the lips", "motion", "speed"),
    ("seam ring ratio", "pixels", "seam_ring_ratio"),
    ("sharpness ratio", "pixels", "sharpness_ratio"),
)


def main(
    judge: Annotated[Path, typer.Option(help="Folder of score.py.")],
    clips: Annotated[Path, typer.Option(help="Folder of talkers, one to a .mp4 file.")],
    only: Annotated[list[str] | None, typer.Option(help="Names of clips, without .mp4; default: all.")] = None,
    frames: Annotated[int, typer.Option(min=25, help="Of each clip, from its start.")] = 150,
    folder: Annotated[Path, typer.Option(help="Excerpts and results.")] = Path("out/silence"),
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = RESULTS,
    label: Annotated[str, typer.Option(help="What the figures are called there.")] = "now",
) -> None:
    """Measures mouth movement in silence and prints the table."""
    outside = Judge(judge.resolve(), folder.resolve() / "cache")
    talkers = [clip for clip in find_clips(clips) if not only or clip.name in only]
    with ThreadPoolExecutor(1) as pool:  # scoring runs in parallel with the next rendering
        scores = {
            clip.name: pool.submit(_score, outside, *_render_silent(clip, frames, folder.resolve())) for clip in talkers
        }
        figures = {name: score.result() for name, score in scores.items()}
    known: dict[str, dict[str, Figures]] = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    known[label] = figures
    out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    for name, rows in known.items():
        _print(name, rows)


def _render_silent(clip: Clip, frames: int, folder: Path) -> tuple[Path, Path, Path]:
    """Renders a clip with silent audio; returns the result, the excerpt and the silent audio."""
    target = folder / clip.name
    target.mkdir(parents=True, exist_ok=True)
    excerpt, silence = target / "excerpt.mp4", target / "silence.wav"
    if not silence.exists():  # written last
        seconds = float(_excerpt(clip.path, excerpt, frames))
        write_wav(silence, np.zeros(round(seconds * SPEECH_SAMPLE_RATE), np.int16), SPEECH_SAMPLE_RATE)
    with tempfile.TemporaryDirectory() as scratch:
        cached, _ = analyse(excerpt, Path(scratch) / "avatar")
        render_staged(cached, silence, Path(scratch))
        (Path(scratch) / "result.mp4").replace(target / "result.mp4")
    return target / "result.mp4", excerpt, silence


def _score(judge: Judge, result: Path, excerpt: Path, silence: Path) -> Figures:
    said: dict[str, Any] = judge.score(result, excerpt, silence, None)
    return {heading: said.get(block, {}).get(metric) for heading, block, metric in _FIGURES}


def _excerpt(clip: Path, path: Path, frames: int) -> Fraction:
    """Writes the first `frames` frames of a clip at high quality, without audio; returns their seconds."""
    partial = path.with_suffix(".part.mp4")
    with av.open(str(clip)) as source:
        seen = source.streams.video[0]
        rate = Fraction(seen.average_rate or 25)
        scale = min(1.0, _MAX_SIDE / max(seen.width, seen.height))
        width, height = (int(side * scale) // 2 * 2 for side in (seen.width, seen.height))
        smaller = [
            frame.reformat(width, height, "yuv420p", interpolation="AREA")
            for frame in islice(source.decode(seen), frames)
        ]
    write_film(partial, smaller, rate, {"crf": "10", "preset": "veryfast", "threads": "1"})
    partial.replace(path)
    return len(smaller) / rate


def _print(label: str, figures: dict[str, Figures]) -> None:
    headings = [heading for heading, _, _ in _FIGURES]
    rows = [(name, *(number(row[heading]) for heading in headings)) for name, row in figures.items()]
    known = ([value for row in figures.values() if (value := row[heading]) is not None] for heading in headings)
    medians = (number(median(values) if values else None) for values in known)
    print_table((label, *headings), rows, [("median", *medians)])


if __name__ == "__main__":
    typer.run(main)
