"""How well objects in front of a mouth are masked: `python -m benchmarks.occlusion.masks --clips FOLDER`.

Clips of clear talkers are tracked with objects drawn in front of the mouth, with motion blur and in different sizes and
directions, and searched as in an analysis. The clips are not part of this repository (benchmarks/README.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.material import FramesInMemory, read_talkers
from benchmarks.occlusion.occluders import OBJECTS, Passage
from benchmarks.report import print_table
from media.probe import VideoInfo
from media.yuv_frame import from_rgb
from models.face.choice import FaceChoice
from models.face.lower_face import CELLS
from models.track.occluder_search import find_occluders
from models.track.occluders import Occluders
from models.track.skip_reason import SkipReason
from models.track.tracker import FaceTracker
from models.track.visibility import assess_visibility

_EXPOSURE = 0.5
_SPEEDS = ((14, 14), (6, 12))  # frames on the way, and frames in front of the mouth
_WRONG = 0.05  # share of the lower face that is taken for the object, or the other way round: a visible error


@dataclass
class _Scores:
    """Frames of one kind of object that cover a part of the lower face."""

    covered: int = 0  # frames reported as covered
    left: int = 0  # of those, frames that stay untouched
    overlap: list[float] = field(default_factory=list)  # of mask and object in each frame that is rewritten
    missed: list[float] = field(default_factory=list)  # share of the lower face: object that is painted over
    excess: list[float] = field(default_factory=list)  # share of the lower face: face that is not rewritten

    def row(self) -> list[str]:
        frames, missed = len(self.overlap), np.array(self.missed)
        return [
            f"{self.covered}",
            f"{self.left}",
            f"{frames}",
            f"{np.mean(self.overlap or [0]):.2f}",
            f"{np.mean(self.missed or [0]):.1%}",
            f"{np.mean(self.excess or [0]):.1%}",
            f"{int((missed > _WRONG).sum())}",
        ]


def main(
    clips: Annotated[list[Path], typer.Option(help="Folders of talkers, one to a .mp4 file.")],
    frames: Annotated[int, typer.Option(min=70, help="Of each clip, from its start.")] = 90,
) -> None:
    """Prints a table with a row for each kind of object."""
    cv2.setNumThreads(0)  # as in a replica
    tracker, scores = FaceTracker(1, "cpu"), {kind: _Scores() for kind in OBJECTS}
    for number, talker in enumerate(read_talkers(clips, frames)):
        _measure(tracker, *talker, number, scores)
    print_table(
        ("object", "covered frames", "left untouched", "frames with a mask", "overlap", "missed", "excess", "wrong"),
        [(kind, *each.row()) for kind, each in scores.items()],
    )


def _measure(
    tracker: FaceTracker, pictures: list[NDArray[np.uint8]], info: VideoInfo, number: int, scores: dict[str, _Scores]
) -> None:
    clear, _ = tracker.track_chunk([from_rgb(each, info.colour) for each in pictures], info.colour, FaceChoice(), None)
    for index, kind in enumerate(OBJECTS):
        passage = _passage(kind, len(pictures), number, index)
        drawn = [passage.draw_alpha(*each) for each in zip(range(len(pictures)), pictures, clear.points, strict=True)]
        frames = [from_rgb(picture, info.colour) for picture, _ in drawn]
        raw, _ = tracker.track_chunk(frames, info.colour, FaceChoice(), None)
        seen = assess_visibility(raw, float(info.fps))
        found = find_occluders(raw, seen, FramesInMemory(frames), float(info.fps))
        scores[kind].covered += int((seen.skip_reason == SkipReason.COVERED).sum())
        scores[kind].left += int((found.judged.skip_reason == SkipReason.COVERED).sum())
        if found.occluders is not None:
            _compare(found.occluders, [alpha for _, alpha in drawn], scores[kind])


def _compare(found: Occluders, alpha: list[NDArray[np.float32]], scores: _Scores) -> None:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for row, frame in enumerate(found.frames.tolist()):
        true = cv2.warpAffine(alpha[frame], found.places[row], (CELLS, CELLS), flags=flags) > 0.5
        face = found.faces_area[found.plate[row]] > 127
        mask = found.masks[row] > 127
        if (true & face).any():
            scores.overlap.append(float((mask & true & face).sum() / ((mask | true) & face).sum()))
        scores.missed.append(float((true & ~mask & face).sum() / face.sum()))
        scores.excess.append(float((mask & ~true & face).sum() / face.sum()))


def _passage(kind: str, num_frames: int, number: int, index: int) -> Passage:
    """Returns a passage that depends on the number of the clip."""
    speed = _SPEEDS[(number + index) % len(_SPEEDS)]
    start = max(14, (num_frames - 2 * speed[0] - speed[1]) // 2)
    passage = Passage.random(kind, np.random.default_rng([number, index]), start, speed, least_size=0.7)
    return replace(passage, exposure=_EXPOSURE)


if __name__ == "__main__":
    typer.run(main)
