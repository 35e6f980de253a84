"""Mouths at single phones: `python -m benchmarks.phones SOURCE... --speech FILE`.

Renders each source with the speech, in this process and without the service, and prints the mean shape of the mouth in
the middle of each /u/, /w/, /o/, /i/, /m/ and /f/: planned, rendered, and true if the truth is known. PocketSphinx
finds the phones in English speech.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.analysis import tracked_video
from benchmarks.phones.alignment import PHONES, find_phones, read_labels
from benchmarks.phones.measures import SHOWN, Shapes, frames_of, render_source, shape_of
from benchmarks.report import print_table
from config import MediaLimits
from media.audio import extract_speech

_TITLE = "Thousandths of the eye distance, from rest: planned / rendered, / before and / true if known"
_NAMES = ("planned", "rendered", "before", "true")


def main(
    sources: Annotated[list[Path], typer.Argument(exists=True, help="Videos and portraits.")],
    speech: Annotated[Path, typer.Option(exists=True, help="What they say: any file with sound.")],
    text: Annotated[str | None, typer.Option(help="What is said. Default: recognised, with errors.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Audacity labels of the phones (u, w, o, i, m, f).")] = None,
    truth: Annotated[Path | None, typer.Option(help="Video of the only source that says the speech.")] = None,
    before: Annotated[Path | None, typer.Option(help="--folder of an earlier run with the same sources.")] = None,
    folder: Annotated[Path, typer.Option(help="Results.")] = Path("out/phones"),
) -> None:
    """Prints mouth shapes by phone."""
    if truth and len(sources) > 1:
        raise typer.BadParameter("Expected one source with --truth.")
    folder.mkdir(parents=True, exist_ok=True)
    samples = folder / "speech.npy"
    extract_speech(speech, samples, MediaLimits())
    phones = read_labels(labels) if labels else find_phones(np.load(samples), text)
    if not any(frames_of(phones, 1).values()):
        raise typer.BadParameter(f"Expected speech with one of the phones {', '.join(PHONES)}, found none.")
    sections = []
    for source in sources:
        name = source.stem
        result = folder / f"{name}.mp4"
        cached, shapes, seen = render_source(source, speech, result)
        for title, other in (("before", before and before / result.name), ("true", truth)):
            if other:
                shapes.videos[title] = shape_of(tracked_video(other), cached)
        sections.append(_section(name, shapes, frames_of(phones, seen.fps)))
    print_table(("source", "phone", "number", *SHOWN), *sections, title=_TITLE)


def _section(name: str, shapes: Shapes, frames: dict[str, list[int]]) -> list[tuple[str, ...]]:
    means = shapes.means(frames)
    known = [kind for kind in _NAMES if kind == "planned" or kind in shapes.videos]
    rows = [
        (name, f"/{phone}/", str(len(frames[phone])), *_cells([by_kind[kind] for kind in known]))
        for phone, by_kind in means.items()
    ]
    if {"i", "u"} <= means.keys():
        rows.append((name, "/i/ - /u/", "", *_cells([means["i"][kind] - means["u"][kind] for kind in known])))
    return rows


def _cells(values: list[NDArray[np.float32]]) -> list[str]:
    return [" / ".join(f"{1000 * value[channel]:.0f}" for value in values) for channel in range(len(SHOWN))]


if __name__ == "__main__":
    typer.run(main)
