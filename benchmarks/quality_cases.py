"""Cases of the quality benchmark: the jobs, and what each result is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from benchmarks.judge import Judge
from benchmarks.material import Clip

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
