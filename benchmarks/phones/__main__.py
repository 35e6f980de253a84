"""Mouths at single phones: `python -m benchmarks.phones SOURCE... --speech FILE`.

Renders each source with the speech, in this process and without the service, draws the middle frame of the longest
/u/, /w/, /o/, /i/, /m/ and /f/ into a contact sheet, a row per source, and prints the mean shape of each: planned,
rendered, and true if the truth is known. PocketSphinx finds the phones in English speech.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.analysis import tracked_video
from benchmarks.phones.alignment import PHONES, find_phones, read_labels
from benchmarks.phones.measures import SHOWN, Shapes, frames_of, render_source, shape_of
from benchmarks.phones.sheet import Row, draw_sheet
from config import MediaLimits
from media.audio import extract_speech

_NAMES = ("planned", "rendered", "before", "true")


def main(
    sources: Annotated[list[Path], typer.Argument(exists=True, help="Videos and portraits.")],
    speech: Annotated[Path, typer.Option(exists=True, help="What they say: any file with sound.")],
    text: Annotated[str | None, typer.Option(help="What is said. Default: recognised, with errors.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Audacity labels of the phones (u, w, o, i, m, f).")] = None,
    truth: Annotated[Path | None, typer.Option(help="Video of the only source that says the speech.")] = None,
    before: Annotated[Path | None, typer.Option(help="--folder of an earlier run with the same sources.")] = None,
    each: Annotated[int, typer.Option(min=1, help="Pictures of each phone.")] = 2,
    folder: Annotated[Path, typer.Option(help="Results and sheet.png.")] = Path("out/phones"),
) -> None:
    """Draws a contact sheet and prints mouth shapes by phone."""
    if truth and len(sources) > 1:
        raise typer.BadParameter("Expected one source with --truth.")
    folder.mkdir(parents=True, exist_ok=True)
    samples = folder / "speech.npy"
    extract_speech(speech, samples, MediaLimits())
    phones = read_labels(labels) if labels else find_phones(np.load(samples), text)
    if not any(frames_of(phones, 1).values()):
        raise typer.BadParameter(f"Expected speech with one of the phones {', '.join(PHONES)}, found none.")
    rows, table = list[Row](), _table()
    for source in sources:
        name = source.stem
        result = folder / f"{name}.mp4"
        cached, shapes, seen = render_source(source, speech, result)
        shown = [Row(name, result, seen)]
        for title, other in (("before", before and before / result.name), ("true", truth)):
            if other:
                video = tracked_video(other)
                shapes.videos[title] = shape_of(video, cached)
                shown.append(Row(f"{name}, {title}", other, video))
        rows += shown
        _add(table, name, shapes, frames_of(phones, seen.fps))
    columns = [(name, frame / 1000) for name, frames in frames_of(phones, 1000).items() for frame in frames[:each]]
    draw_sheet(rows, columns, folder / "sheet.png")
    Console(width=140).print(table)


def _table() -> Table:
    table = Table(title="Thousandths of the eye distance, from rest: planned / rendered, / before and / true if known")
    for heading in ("source", "phone", "number", *SHOWN):
        table.add_column(heading)
    return table


def _add(table: Table, name: str, shapes: Shapes, frames: dict[str, list[int]]) -> None:
    means = shapes.means(frames)
    known = [kind for kind in _NAMES if kind == "planned" or kind in shapes.videos]
    for phone, by_kind in means.items():
        table.add_row(name, f"/{phone}/", str(len(frames[phone])), *_cells([by_kind[kind] for kind in known]))
    if {"i", "u"} <= means.keys():
        spread = [means["i"][kind] - means["u"][kind] for kind in known]
        table.add_row(name, "/i/ - /u/", "", *_cells(spread))
    table.add_section()


def _cells(values: list[NDArray[np.float32]]) -> list[str]:
    return [" / ".join(f"{1000 * value[channel]:.0f}" for value in values) for channel in range(len(SHOWN))]


if __name__ == "__main__":
    typer.run(main)
