"""Tracks the lips of a folder of talking faces and writes them as a corpus of `training.speech_corpus`.

    python -m training.track_speakers CLIPS CORPORA/javanese --without 10

The name of each .mp4 in CLIPS starts with its speaker and a hyphen, as those of the Java-SED corpus do (Arifin,
Priambodo, Nasuha, Winursito and Gunawan, "Development of Javanese Speech Emotion Database (Java-SED)", 2022; MIT
licence). Its speaker 10 hardly moves the lips and is left out. Of each clip, the longest stretch with a visible mouth
is kept. Takes about 10 ms of one core per frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import numpy as np
import soundfile
import typer
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.media.audio import SPEECH_SAMPLE_RATE, extract_speech
from lipwright.media.probe import probe_video
from lipwright.media.reader import FrameReader
from models.face.choice import FaceChoice
from models.mouth.shape import measure
from models.track.face_track import finish_track
from models.track.square_pixels import pixel_aspect
from models.track.tracker import FaceTracker

_CACHE_BYTES = 64 * 1024**2
_MIN_SECONDS = 1.2


class TrackedClip(NamedTuple):
    """A clip of one speaker.

    Attributes:
        speaker: Name of the speaker.
        samples: (N,) int16 at 16 kHz.
        measures: (T, 8) of `models.mouth.shape`.
        fps: Rows of `measures` a second.
    """

    speaker: str
    samples: NDArray[np.int16]
    measures: NDArray[np.float32]
    fps: float


def track_clip(clip: Path, tracker: FaceTracker) -> TrackedClip:
    """Tracks the largest face of a video with sound and returns the longest stretch in which its mouth is visible."""
    info = probe_video(clip, MediaLimits())
    with FrameReader(clip, info, _CACHE_BYTES) as reader:
        frames = reader.read(range(info.num_frames))
        raw, _ = tracker.track_chunk(frames, info.colour, FaceChoice(), None, pixel_aspect(info))
    fps = float(info.fps)
    track = finish_track(raw.points, raw.present, fps=fps, pixel_aspect=pixel_aspect(info), lips_move=True)
    with TemporaryDirectory() as folder:
        speech = Path(folder) / "speech.npy"
        extract_speech(clip, speech, MediaLimits())
        samples = np.load(speech)
    start, stop = _longest_run(track.visible)
    first, last = (round(frame / fps * SPEECH_SAMPLE_RATE) for frame in (start, stop))
    return TrackedClip(_speaker(clip), samples[first:last], measure(track.head_points)[start:stop], fps)


def write_corpus(stem: Path, clips: Sequence[TrackedClip]) -> None:
    """Writes STEM.flac and STEM.npz; clips shorter than 1.2 s are left out.

    Raises:
        ValueError: No clip is long enough, or the clips have several frame rates.
    """
    long_enough = [clip for clip in clips if len(clip.measures) >= _MIN_SECONDS * clip.fps]
    rates = {clip.fps for clip in long_enough}
    if len(rates) != 1:
        raise ValueError(f"Expected clips of one frame rate, at least {_MIN_SECONDS} s each, got {rates = }.")
    samples = [clip.samples for clip in long_enough]
    measures = [clip.measures for clip in long_enough]
    soundfile.write(stem.with_suffix(".flac"), np.concatenate(samples), SPEECH_SAMPLE_RATE)
    np.savez(
        stem.with_suffix(".npz"),
        audio_offset=np.cumsum([0, *map(len, samples)]),
        frame_offset=np.cumsum([0, *map(len, measures)]),
        measures=np.concatenate(measures),
        talkers=[clip.speaker for clip in long_enough],
        fps=rates.pop(),
    )


def _speaker(clip: Path) -> str:
    return clip.stem.split("-")[0]


def _longest_run(flags: NDArray[np.bool_]) -> tuple[int, int]:
    """Returns the half-open range of the longest run of True."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    starts, stops = changes[::2], changes[1::2]
    longest = int((stops - starts).argmax())
    return int(starts[longest]), int(stops[longest])


def main(
    clips: Path,
    stem: Annotated[Path, typer.Argument(help="Path of the corpus without .flac and .npz.")],
    without: Annotated[list[str] | None, typer.Option(help="Speakers to leave out.")] = None,
) -> None:
    """Reads CLIPS and writes the corpus."""
    tracker = FaceTracker(num_threads=1, device="cpu")
    chosen = [clip for clip in sorted(clips.glob("*.mp4")) if _speaker(clip) not in (without or ())]
    write_corpus(stem, [track_clip(clip, tracker) for clip in chosen])


if __name__ == "__main__":
    typer.run(main)
