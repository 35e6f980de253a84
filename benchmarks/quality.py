"""Quality of the rendered faces: `python -m benchmarks.quality --judge FOLDER --clips FOLDER --speech FOLDER`.

Renders the cases in this process, scores the results with an independent evaluator (the judge), and writes
benchmarks/quality.json. The table groups clips by folder. The judge and the clips are not part of this repository
(benchmarks/README.md).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import av
import typer
from rich.console import Console
from rich.progress import track

from benchmarks.analysis import analyse
from benchmarks.in_process import render_staged
from benchmarks.judge import Judge
from benchmarks.material import Clip, find_clips
from benchmarks.quality_table import markdown, sections, table
from benchmarks.report import print_table

TESTS = ("rest", "split", "silent", "cross", "still")
CONTROL = "control"
# Results made by the judge: the best and the worst possible outcome of a test.
CONTROLS = {"ceiling": "ctl_truth_crf28.mp4", "unchanged": "ctl_unchanged.mp4", "late": "ctl_late400.mp4"}


@dataclass(frozen=True)
class Case:
    """One job and what its result is compared with.

    Attributes:
        test: One of `TESTS`, or `control:` with a name of `CONTROLS`.
        clip: Name of the clip.
        group: Group of the clip.
        video: The submitted face.
        audio: The submitted speech.
        source: Reference for unchanged pixels.
        truth: Ground truth, if known.
        result: The scored video; rendered unless the case is a control.
    """

    test: str
    clip: str
    group: str
    video: Path
    audio: Path
    source: Path
    truth: Path | None
    result: Path

    @property
    def kind(self) -> str:
        """A name of `TESTS`, or `CONTROL`."""
        return self.test.partition(":")[0]

    @property
    def is_control(self) -> bool:
        """Whether the result already exists."""
        return self.kind == CONTROL


def make_cases(judge: Judge, clips: Sequence[Clip], speech: Sequence[Path], folder: Path, frames: int) -> list[Case]:
    """Makes the material of every test and returns the cases.

    Args:
        judge: Makes the material without leakage.
        clips: Clips of one speaker each.
        speech: Speech of others; clip i is combined with speech i.
        folder: Folder of material and results.
        frames: Maximum frames per clip.
    """
    cases: list[Case] = []
    for number, clip in enumerate(clips):
        place = folder / clip.name
        made, halves = judge.controls(clip.path, place / "controls", frames), judge.split(clip.path, place / "split")
        rest, truth, own = made / "source_rest.mp4", made / "truth.mp4", made / "driving.wav"
        other, portrait = speech[number % len(speech)], _first_frame(rest, made / "still.png")
        jobs: dict[str, tuple[Path, Path, Path, Path | None]] = {
            "rest": (rest, own, rest, truth),
            "split": (halves / "source.mp4", halves / "driving.wav", halves / "source.mp4", halves / "truth.mp4"),
            "silent": (truth, made / "silence.wav", truth, None),
            "cross": (truth, other, truth, None),
            "still": (portrait, own, rest, truth),
        }
        cases += [Case(test, clip.name, clip.group, *job, place / f"{test}.mp4") for test, job in jobs.items()]
        cases += [
            Case(f"control:{name}", clip.name, clip.group, rest, own, rest, truth, made / file)
            for name, file in CONTROLS.items()
        ]
    return cases


def _first_frame(video: Path, picture: Path) -> Path:
    """Writes the first frame as lossless picture."""
    with av.open(str(video)) as source, av.open(str(picture), "w", format="image2") as target:
        frame = next(source.decode(video=0))
        stream = target.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "rgb24"
        target.mux(stream.encode(frame.reformat(format="rgb24")))
        target.mux(stream.encode(None))
    return picture


RESULTS = Path(__file__).with_name("quality.json")
# Blocks of the judge's metrics that are kept; the others name files or repeat the input.
_KEPT = ("face", "motion", "av", "lipleak", "truth_metrics", "pixels")


def main(
    judge: Annotated[Path, typer.Option(help="Folder of score.py, controls.py, split.py and sheet.py.")],
    clips: Annotated[Path, typer.Option(help="Folder of .mp4 files, one speaker in each; subfolders are groups.")],
    speech: Annotated[
        Path | None, typer.Option(help="Folder of .wav files to cross with; default: the clips'.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Names of clips, without .mp4; default: all.")] = None,
    unseen: Annotated[list[str] | None, typer.Option(help="Clips of speakers unseen in training: a group.")] = None,
    tests: Annotated[list[str] | None, typer.Option(help=f"One or more of {', '.join((*TESTS, CONTROL))}.")] = None,
    max_frames: Annotated[int, typer.Option(min=25, help="Of each clip.")] = 600,
    folder: Annotated[Path, typer.Option(help="Material, results and contact sheets.")] = Path("out/quality"),
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = RESULTS,
) -> None:
    """Measures the quality of the default engine and prints the table."""
    talkers = [clip for clip in find_clips(clips) if not only or clip.name in only]
    wavs = sorted((speech or clips).glob("*.wav"))
    if not talkers or not wavs:
        raise typer.BadParameter(f"Expected .mp4 files in {clips} and .wav files in {speech or clips}.")
    outside = Judge(judge.resolve(), folder.resolve() / "cache")
    wanted = set(tests or (*TESTS, CONTROL))
    cases = make_cases(outside, talkers, wavs, folder.resolve(), max_frames)
    results = _results(outside, [case for case in cases if case.kind in wanted])
    groups: dict[str, list[str]] = {"unseen": list(unseen)} if unseen else {}
    for clip in talkers:
        groups.setdefault(clip.group, []).append(clip.name)
    out.write_text(json.dumps({"groups": groups, "results": results}, indent=1) + "\n", encoding="utf-8")
    lines = table(results, groups)
    (folder / "table.md").write_text(markdown(lines) + "\n", encoding="utf-8")
    print_table(lines[0], *sections(lines))


def _results(judge: Judge, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Renders and scores every case; scoring runs in parallel with the next rendering."""
    scored: list[Future[dict[str, Any]]] = []
    by_source = groupby(sorted(cases, key=lambda case: (case.is_control, str(case.video))), lambda case: case.video)
    with ThreadPoolExecutor(1) as pool, tempfile.TemporaryDirectory() as scratch:
        sources = [(video, list(of_video)) for video, of_video in by_source]
        for number, (video, of_video) in enumerate(track(sources, "Sources", console=Console(stderr=True))):
            place = Path(scratch) / str(number)
            jobs = [case for case in of_video if not case.is_control]
            reports = _render(video, jobs, place) if jobs else {}
            scored += [pool.submit(_score, judge, case, reports.get(case.result)) for case in of_video]
        return [score.result() for score in scored]


def _render(video: Path, cases: Sequence[Case], place: Path) -> dict[Path, Any]:
    """Renders the cases of one source and returns their quality reports."""
    reports: dict[Path, Any] = {}
    place.mkdir()
    cached, _ = analyse(video, place / "avatar")
    for case in cases:
        done = render_staged(cached, case.audio, place)
        (place / "result.mp4").replace(case.result)
        reports[case.result] = done.report.model_dump(mode="json")
    return reports


def _score(judge: Judge, case: Case, report: Any) -> dict[str, Any]:
    figures = judge.score(case.result, case.source, case.audio, case.truth)
    if not case.is_control:
        judge.sheet(case.result, case.source, case.result.with_suffix(".png"))
    kept = {block: figures[block] for block in _KEPT if block in figures}
    return {"test": case.test, "clip": case.clip, "figures": kept, "report": report}


if __name__ == "__main__":
    typer.run(main)
