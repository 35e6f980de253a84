"""Motion of stills and of people who speak: `python -m benchmarks.stills --clips FOLDER [--still PICTURE]...`.

Tracks the first seconds of each clip, and one result per still that says the sample speech twice with a pause, and
prints amplitudes, speeds and correlations with stress of both, and how far the background of each still moves.
Everything is rendered in one process.
"""

from __future__ import annotations

import tempfile
import wave
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.analysis import AnalysedAvatar, analyse, tracked_video
from benchmarks.in_process import render_staged
from benchmarks.material import SAMPLES, find_clips
from benchmarks.report import print_table
from benchmarks.stills.background import background_flow
from benchmarks.stills.measures import BANDS, FaceMotion, measure, prosody_of

_MAX_SECONDS = 16.0
_PAUSE_SECONDS = 2.5
_HEADINGS = ("speed /s", "pauses / speech", "stress: pitch, brows", "brows", "corners", "blinks/min")


def main(
    clips: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder with .mp4 files of speakers.")],
    still: Annotated[list[Path] | None, typer.Option(help="Portraits. Default: both in samples/.")] = None,
) -> None:
    """Measures and prints how stills and speakers move."""
    speakers = {clip.name: _measure(clip.path) for clip in find_clips(clips)}
    with tempfile.TemporaryDirectory() as folder:
        stills, flows = {}, {}
        for number, picture in enumerate(still or sorted(SAMPLES.glob("portrait*.jpg"))):
            avatar, _ = analyse(picture, Path(folder) / str(number) / "avatar")
            stills[picture.stem] = _measure(_render(avatar, Path(folder) / str(number)))
            flows[picture.stem] = background_flow(avatar)
    sections = [
        [(name, *_cells([motion])) for name, motion in group.items()]
        + [(f"median of {title}", *_cells(list(group.values())))]
        for group, title in ((speakers, "speakers"), (stills, "stills"))
    ]
    print_table(
        ("", *(f"{low:g}-{high:g} Hz" for low, high in BANDS), *_HEADINGS),
        *sections,
        title="Pitch, yaw, roll in degrees; lengths in thousandths of the eye distance",
    )
    for name, flow in flows.items():
        print(f"{name}: 95th percentile of the background's optical flow {flow:.2f} pixels")


def _render(avatar: AnalysedAvatar, folder: Path) -> Path:
    """Returns the result of a job of a still with the sample speech."""
    render_staged(avatar, _speech_with_pauses(folder / "speech.wav"), folder)
    return folder / "result.mp4"


def _speech_with_pauses(path: Path) -> Path:
    """Writes the sample speech twice, with a pause after each, and returns its path."""
    with wave.open(str(SAMPLES / "speech.wav")) as source:
        settings, said = source.getparams(), source.readframes(source.getnframes())
    pause = bytes(round(_PAUSE_SECONDS * settings.framerate) * settings.sampwidth * settings.nchannels)
    with wave.open(str(path), "wb") as target:
        target.setparams(settings)
        target.writeframes(2 * (said + pause))
    return path


def _measure(video: Path) -> FaceMotion:
    seen = tracked_video(video, _MAX_SECONDS)
    return measure(seen.track, seen.fps, prosody_of(video, seen.track.num_frames, seen.fps))


def _cells(motions: list[FaceMotion]) -> list[str]:
    def middle(name: str, scale: float = 1.0) -> str:
        values = np.array([getattr(motion, name) for motion in motions], np.float64) * scale
        known = values[~np.isnan(values).reshape(len(values), -1).any(1)]
        return "-" if not len(known) else ", ".join(f"{value:.2f}" for value in np.ravel(np.median(known, 0)))

    bands = np.median([motion.bands for motion in motions], 0)
    return [
        *(", ".join(f"{value:.2f}" for value in row) for row in bands),
        middle("speed"),
        middle("pause_share"),
        middle("stress"),
        middle("brows", 1000),
        middle("corners", 1000),
        middle("blinks"),
    ]


if __name__ == "__main__":
    typer.run(main)
