"""How believable the faces are: `python -m benchmarks.quality --judge FOLDER --clips FOLDER --speech FOLDER`.

Sends the jobs of `benchmarks.quality_cases` to a service that it starts, has an outside judge score the results, and
writes benchmarks/quality.json. The judge and the clips are not part of this repository (benchmarks/README.md).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.judge import Judge
from benchmarks.quality_cases import TESTS, Case, make_cases
from benchmarks.quality_table import markdown, table
from lipwright_client import Lipwright, Patience

RESULTS = Path(__file__).with_name("quality.json")
_JUDGES_AT_A_TIME = 2
# Blocks of the judge's figures that are kept: the rest names files or repeats the input.
_KEPT = ("face", "motion", "av", "lipleak", "truth_metrics", "pixels")


def main(
    judge: Annotated[Path, typer.Option(help="Folder of score.py, controls.py, split.py and sheet.py.")],
    clips: Annotated[Path, typer.Option(help="Folder of talkers, one to a .mp4 file, with their sound.")],
    speech: Annotated[
        Path | None, typer.Option(help="Folder of .wav files to cross with; default: the clips'.")
    ] = None,
    unseen: Annotated[list[str] | None, typer.Option(help="Clips of talkers unseen in training; default: all.")] = None,
    tests: Annotated[list[str] | None, typer.Option(help=f"Some of {', '.join(TESTS)}; default: all.")] = None,
    max_frames: Annotated[int, typer.Option(min=25, help="Of each clip.")] = 600,
    folder: Annotated[Path, typer.Option(help="Material, results and contact sheets.")] = Path("out/quality"),
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = RESULTS,
) -> None:
    """Measure the quality of the embedded engine and print the table."""
    talkers = sorted(clips.glob("*.mp4"))
    wavs = sorted((speech or clips).glob("*.wav"))
    if not talkers or not wavs:
        raise typer.BadParameter(f"Expected .mp4 files in {clips} and .wav files in {speech or clips}.")
    outside = Judge(judge.resolve(), folder.resolve() / "cache")
    cases = make_cases(outside, talkers, wavs, folder.resolve(), max_frames)
    wanted = set(tests or TESTS)
    cases = [case for case in cases if case.is_control or case.test in wanted]
    reports = _render([case for case in cases if not case.is_control])
    results = _score(outside, cases, reports)
    names = list(unseen) if unseen else [clip.stem for clip in talkers]
    out.write_text(json.dumps({"unseen": names, "results": results}, indent=1) + "\n", encoding="utf-8")
    lines = table(results, names)
    (folder / "table.md").write_text(markdown(lines) + "\n", encoding="utf-8")
    _print(lines)


def _render(cases: Sequence[Case]) -> dict[Path, Any]:
    """Has the service make every result; returns the quality report of each."""
    from launch.service import running_service

    reports: dict[Path, Any] = {}
    with running_service(data_dir=cases[0].result.parents[1] / "data") as url:
        client = Lipwright(url, patience=Patience(max_full_s=1800))
        for case in track(cases, "Jobs", console=Console(stderr=True)):
            job = client.speak(video=case.video, audio=case.audio, out=case.result)
            reports[case.result] = job.report
    return reports


def _score(judge: Judge, cases: Sequence[Case], reports: dict[Path, Any]) -> list[dict[str, Any]]:
    def one(case: Case) -> dict[str, Any]:
        figures = judge.score(case.result, case.source, case.audio, case.truth)
        if not case.is_control:
            judge.sheet(case.result, case.source, case.result.with_suffix(".png"))
        kept = {block: figures[block] for block in _KEPT if block in figures}
        return {"test": case.test, "clip": case.clip, "figures": kept, "report": reports.get(case.result)}

    with ThreadPoolExecutor(_JUDGES_AT_A_TIME) as pool:
        return list(track(pool.map(one, cases), "Scores", len(cases), console=Console(stderr=True)))


def _print(lines: Sequence[Sequence[str]]) -> None:
    printed = Table(*lines[0])
    for before, line in zip(lines, lines[1:], strict=False):
        if before[0] != line[0]:
            printed.add_section()
        printed.add_row(*line)
    Console(width=150).print(printed)


if __name__ == "__main__":
    typer.run(main)
