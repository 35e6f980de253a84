"""Missed occlusions against clear frames lost: `python -m benchmarks.occlusion --clips FOLDER`.

Clips of clear talkers are tracked as they are, and again with objects drawn in front of the mouth. For a range
of bounds of `models.face.occlusion.OCCLUDED` the table says how many clear frames would be lost, and how many of the
frames whose lips are hidden would be missed. The clips are not part of this repository (benchmarks/README.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.occlusion.occluders import OBJECTS, Passage
from benchmarks.occlusion.talkers import read_talker
from media.probe import ColourTags
from media.yuv_frame import from_rgb
from models.face import occlusion
from models.face.choice import FaceChoice
from models.track.raw_landmarks import RawLandmarks
from models.track.tracker import FaceTracker

_HIDDEN = 0.6  # share of the lips from which on a frame should be found
# Frames on the way and frames in front of the mouth, by speed.
_SPEEDS = {"slow": (10, 16), "fast": (3, 12), "passing": (4, 2)}
_BOUNDS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1)


class Tracked(NamedTuple):
    """N frames of one clip; what passes in front of it, if anything."""

    clip: str
    passage: Passage | None
    raw: RawLandmarks
    hidden: NDArray[np.float64]  # (N,) share of the lips that is hidden


def main(
    clips: Annotated[list[Path], typer.Option(help="Folders of talkers, one to a .mp4 file.")],
    frames: Annotated[int, typer.Option(min=50, help="Of each clip, from its start.")] = 90,
) -> None:
    """Track clear and occluded talkers and print the curve."""
    tracker = FaceTracker(1, "cpu")
    paths = sorted(path for folder in clips for path in folder.glob("*.mp4"))
    tracked = [each for number, path in enumerate(paths) for each in _tracked(tracker, path, number, frames)]
    table = Table("bound", "clear frames lost", *(f"{kind} missed" for kind in OBJECTS), "passages missed")
    for bound in _BOUNDS:
        found = [_found(each, bound) for each in tracked]
        clear = [(each, hit) for each, hit in zip(tracked, found, strict=True) if each.passage is None]
        lost = sum(int(hit.sum()) for _, hit in clear)
        table.add_row(
            f"{bound:.2f}",
            f"{lost} of {sum(len(each.raw.present) for each, _ in clear)}",
            *(_missed(tracked, found, kind) for kind in OBJECTS),
            _missed_passages(tracked, found),
        )
    Console(width=150).print(table)


def _tracked(tracker: FaceTracker, path: Path, number: int, num_frames: int) -> list[Tracked]:
    pictures, info = read_talker(path, num_frames)
    frames = [from_rgb(each, info.colour) for each in pictures]
    raw, _ = tracker.track_chunk(frames, info.colour, FaceChoice(), None)
    result = [Tracked(path.stem, None, raw, np.zeros(len(frames)))]
    for index, kind in enumerate(OBJECTS):
        passage = _passage(kind, len(pictures), number, index)
        drawn = [passage.draw(*each) for each in zip(range(len(pictures)), pictures, raw.points, strict=True)]
        result.append(_occluded(tracker, path.stem, passage, drawn, info.colour))
    return result


def _occluded(
    tracker: FaceTracker,
    clip: str,
    passage: Passage,
    drawn: list[tuple[NDArray[np.uint8], float]],
    colour: ColourTags,
) -> Tracked:
    frames = [from_rgb(picture, colour) for picture, _ in drawn]
    raw, _ = tracker.track_chunk(frames, colour, FaceChoice(), None)
    return Tracked(clip, passage, raw, np.array([hidden for _, hidden in drawn]))


def _passage(kind: str, num_frames: int, number: int, index: int) -> Passage:
    """A passage whose speed, direction, size and colour depend on the number of the clip."""
    random = np.random.default_rng([number, index])
    num_coming, num_staying = list(_SPEEDS.values())[(number + index) % len(_SPEEDS)]
    latest = max(21, num_frames - 2 * num_coming - num_staying - 8)
    return Passage(
        kind,
        start=int(random.integers(20, latest)),
        num_coming=num_coming,
        num_staying=num_staying,
        degrees=float(random.uniform(20, 160)),
        size=float(random.uniform(0.8, 1.25)),
        seed=int(random.integers(1000)),
    )


def _found(tracked: Tracked, bound: float) -> NDArray[np.bool_]:
    raw = tracked.raw
    assert raw.chroma is not None
    return occlusion.occluded(raw.chroma, raw.points, raw.present, np.zeros(len(raw.present), np.int32), bound)


def _missed(tracked: list[Tracked], found: list[NDArray[np.bool_]], kind: str) -> str:
    pairs = [
        (hit, each.raw.present & (each.hidden > _HIDDEN))
        for each, hit in zip(tracked, found, strict=True)
        if each.passage is not None and each.passage.kind == kind
    ]
    num = sum(int(wanted.sum()) for _, wanted in pairs)
    return f"{sum(int((wanted & ~hit).sum()) for hit, wanted in pairs) / max(1, num):.0%}"


def _missed_passages(tracked: list[Tracked], found: list[NDArray[np.bool_]]) -> str:
    wanted = [each.raw.present & (each.hidden > _HIDDEN) for each in tracked]
    num = sum(bool(each.any()) for each in wanted)
    missed = sum(bool(each.any() and not (each & hit).any()) for each, hit in zip(wanted, found, strict=True))
    return f"{missed} of {num}"


if __name__ == "__main__":
    typer.run(main)
