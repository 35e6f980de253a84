"""Which jobs the quality benchmark renders, and what each result is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from benchmarks.judge import Judge

TESTS = ("rest", "split", "silent", "cross", "still")
CONTROL = "control"
# Results that the judge makes itself: the best and the worst that a test can give.
CONTROLS = {"ceiling": "ctl_truth_crf28.mp4", "unchanged": "ctl_unchanged.mp4", "late": "ctl_late400.mp4"}


@dataclass(frozen=True)
class Clip:
    """A talker's film.

    Attributes:
        path: With its own sound.
        name: Its path below the folder of all clips, without its ending.
        group: Name of the folder that it lies in: clips of one folder are put together.
    """

    path: Path
    name: str
    group: str


def find_clips(folder: Path) -> list[Clip]:
    """Returns the .mp4 files of a folder and of the folders in it, whatever they are called."""
    root = folder.resolve()
    paths = sorted(root.rglob("*.mp4"), key=lambda path: (len(path.parts), path))
    return [Clip(path, path.relative_to(root).with_suffix("").as_posix(), path.parent.name) for path in paths]


@dataclass(frozen=True)
class Case:
    """One job and what its result is held against.

    Attributes:
        test: One of `TESTS`, or `control:` with a name of `CONTROLS`.
        clip: Name of the talker's clip.
        group: The clip's.
        video: The face that is sent.
        audio: The speech that is sent.
        source: What the judge compares untouched pixels with.
        truth: What the talker really did, if known.
        result: The video that is scored; rendered unless the case is a control.
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
        """True if the result exists already."""
        return self.kind == CONTROL


def make_cases(judge: Judge, clips: Sequence[Clip], speech: Sequence[Path], folder: Path, frames: int) -> list[Case]:
    """Makes the material of every test and lists the jobs.

    Args:
        judge: Makes the leak-proof material.
        clips: Films of one talker each.
        speech: Foreign speech; clip i is crossed with speech i.
        folder: Where material and results go.
        frames: Most frames that are taken of a clip.
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
    """Writes the first frame as a lossless picture."""
    with av.open(str(video)) as source, av.open(str(picture), "w", format="image2") as target:
        frame = next(source.decode(video=0))
        stream = target.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "rgb24"
        target.mux(stream.encode(frame.reformat(format="rgb24")))
        target.mux(stream.encode(None))
    return picture
