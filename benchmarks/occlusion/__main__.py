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

from benchmarks.material import read_talkers
from benchmarks.occlusion.occluders import OBJECTS, Passage
from benchmarks.report import print_table
from media.probe import VideoInfo
from media.yuv_frame import from_rgb
from models.face import occlusion
from models.face.choice import FaceChoice
from models.track.raw_landmarks import RawLandmarks
from models.track.tracker import FaceTracker

_HIDDEN = 0.6  # share of the lips from which on a frame should be found
_SPEEDS = ((10, 16), (3, 12), (4, 2))  # frames on the way, and frames in front of the mouth
_BOUNDS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1)


class Tracked(NamedTuple):
    """N frames of one clip; what passes in front of it, if anything."""

    passage: Passage | None
    raw: RawLandmarks
    hidden: NDArray[np.float64]  # (N,) share of the lips that is hidden


def main(
    clips: Annotated[list[Path], typer.Option(help="Folders of talkers, one to a .mp4 file.")],
    frames: Annotated[int, typer.Option(min=50, help="Of each clip, from its start.")] = 90,
) -> None:
    """Tracks clear and occluded talkers and prints the curve."""
    tracker = FaceTracker(1, "cpu")
    talkers = enumerate(read_talkers(clips, frames))
    tracked = [each for number, talker in talkers for each in _track(tracker, *talker, number)]
    rows = []
    for bound in _BOUNDS:
        found = [_find_occluded(each, bound) for each in tracked]
        clear = [(each, hit) for each, hit in zip(tracked, found, strict=True) if each.passage is None]
        lost = sum(int(hit.sum()) for _, hit in clear)
        num_clear = sum(len(each.raw.present) for each, _ in clear)
        missed = (_format_missed(tracked, found, kind) for kind in OBJECTS)
        rows.append((f"{bound:.2f}", f"{lost} of {num_clear}", *missed, _missed_passages(tracked, found)))
    print_table(("bound", "clear frames lost", *(f"{kind} missed" for kind in OBJECTS), "passages missed"), rows)


def _track(tracker: FaceTracker, pictures: list[NDArray[np.uint8]], info: VideoInfo, number: int) -> list[Tracked]:
    def track(shown: list[NDArray[np.uint8]]) -> RawLandmarks:
        frames = [from_rgb(each, info.colour) for each in shown]
        return tracker.track_chunk(frames, info.colour, FaceChoice(), None)[0]

    raw = track(pictures)
    result = [Tracked(None, raw, np.zeros(len(pictures)))]
    for index, kind in enumerate(OBJECTS):
        passage = _passage(kind, len(pictures), number, index)
        drawn = [passage.draw(*each) for each in zip(range(len(pictures)), pictures, raw.points, strict=True)]
        shown, hidden = zip(*drawn, strict=True)
        result.append(Tracked(passage, track(list(shown)), np.array(hidden)))
    return result


def _passage(kind: str, num_frames: int, number: int, index: int) -> Passage:
    """Returns a passage that depends on the number of the clip."""
    random = np.random.default_rng([number, index])
    speed = _SPEEDS[(number + index) % len(_SPEEDS)]
    latest = max(21, num_frames - 2 * speed[0] - speed[1] - 8)
    return Passage.random(kind, random, int(random.integers(20, latest)), speed, least_size=0.8)


def _find_occluded(tracked: Tracked, bound: float) -> NDArray[np.bool_]:
    raw = tracked.raw
    assert raw.chroma is not None
    return occlusion.occluded(raw.chroma, raw.points, raw.present, np.zeros(len(raw.present), np.int32), bound)


def _format_missed(tracked: list[Tracked], found: list[NDArray[np.bool_]], kind: str) -> str:
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
