"""Motion of stills and of people who speak: `python -m benchmarks.stills --clips FOLDER [--still PICTURE]...`.

Tracks the first seconds of each clip, and one result per still that says the sample speech twice with a pause, and
prints amplitudes, speeds and correlations with stress of both, and how far the background of each still moves.
Everything is rendered in one process.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.analysis import AnalysedAvatar, analyse, tracked_video
from benchmarks.in_process import render_staged
from benchmarks.material import SAMPLES, FramesInMemory, find_clips
from benchmarks.media_files import read_wav, write_wav
from benchmarks.report import print_table
from config import MediaLimits
from media.audio import extract_speech
from media.playback import Playback
from media.reader import FrameReader
from models.avatar.eye_white import lid_openings
from models.geometry.head_frame import CORNER_LEFT, CORNER_RIGHT
from models.speech.level import measure_level
from models.speech.prosody import Prosody, file_prosody
from models.track.face_track import FaceTrack

BANDS: Final = ((0.1, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 4.0))  # Hz; above them is mostly noise of the tracker
_BROWS: Final = (46, 53, 52, 65, 55, 276, 283, 282, 295, 285)  # lower edges
_BEAT_HERTZ: Final = (0.5, 4.0)  # what moves with syllables
_MAX_LAG_SECONDS: Final = 0.3
_BLINK: Final = 0.6  # of the usual opening of the lids


@dataclass(frozen=True)
class FaceMotion:
    """Medians and bands over a clip; angles in degrees, lengths in eye distances."""

    bands: NDArray[np.float64]  # (4, 3) standard deviation of pitch, yaw and roll in each of `BANDS`
    place: NDArray[np.float64]  # (2, 4) the same of where the head is: right and down
    speed: NDArray[np.float64]  # (3,) mean speed a second of pitch, yaw and roll
    pause_share: float  # speed of the head in pauses over that in speech; NaN without pauses
    stress: tuple[float, float]  # largest correlation of pitch and of brows with stress
    brows: float  # standard deviation of the height of the brows
    corners: float  # standard deviation of the height of the corners of the mouth in pauses; NaN without pauses
    blinks: float  # a minute


def prosody_of(file: Path, num_frames: int, fps: float) -> Prosody:
    """Returns the prosody of a file with sound, and of the silence after it, at the times of frames."""
    with TemporaryDirectory() as folder:
        speech = Path(folder) / "speech.npy"
        extract_speech(file, speech, MediaLimits())
        return file_prosody(speech, measure_level(speech), np.arange(num_frames) / fps)


def measure(track: FaceTrack, fps: float, prosody: Prosody) -> FaceMotion:
    """Measures the longest shot of a track, given the prosody of its frames."""
    longest = np.flatnonzero(track.visible & (track.shot == np.bincount(track.shot[track.visible]).argmax()))
    part = slice(int(longest[0]), int(longest[-1]) + 1)
    yaw, pitch, roll = track.pose_degrees[part].T.astype(np.float64)
    place = track.translation[part, :2].T.astype(np.float64) / np.median(track.scale[part])
    head = track.head_points[part].astype(np.float64)
    brows, lids = head[:, _BROWS, 1].mean(1), lid_openings(track.points[part]).mean(1)
    corners = head[:, [CORNER_LEFT, CORNER_RIGHT], 1].mean(1)
    stress, is_pause = prosody.stress[part].astype(np.float64), prosody.speaking[part] < 0.3
    speeds = np.abs(np.diff([pitch, yaw, roll])) * fps
    in_pause = is_pause[1:]
    has_pause = bool(fps / 2 < in_pause.sum() < len(in_pause) - fps / 2)
    shut = lids < _BLINK * np.median(lids)
    return FaceMotion(
        np.stack([band_stds(angle, fps) for angle in (pitch, yaw, roll)], -1),
        np.stack([band_stds(axis, fps) for axis in place]),
        speeds.mean(1),
        float(speeds[:, in_pause].mean() / speeds[:, ~in_pause].mean()) if has_pause else np.nan,
        (_correlation(pitch, stress, fps), _correlation(brows, stress, fps)),
        float(_band(brows, fps, (BANDS[0][0], BANDS[-1][1])).std()),
        float(corners[is_pause].std()) if has_pause else np.nan,
        float((shut[1:] & ~shut[:-1]).sum() / len(shut) * fps * 60),
    )


def band_stds(values: NDArray[np.float64], fps: float) -> NDArray[np.float64]:
    """Returns the (4,) standard deviations of (T,) values in each of `BANDS`."""
    return np.array([_band(values, fps, band).std() for band in BANDS])


def _band(values: NDArray[np.float64], fps: float, band: tuple[float, float]) -> NDArray[np.float64]:
    """Returns (T,) values without what is outside the band; the line through both ends is removed first."""
    line = np.linspace(values[0], values[-1], len(values))
    spectrum = np.fft.rfft(values - line)
    hertz = np.fft.rfftfreq(len(values), 1 / fps)
    return np.fft.irfft(np.where((hertz >= band[0]) & (hertz < band[1]), spectrum, 0), len(values))


def _correlation(values: NDArray[np.float64], stress: NDArray[np.float64], fps: float) -> float:
    """Returns the correlation that is farthest from 0 with stress up to `_MAX_LAG_SECONDS` before or after it."""
    moved, heard = _band(values, fps, _BEAT_HERTZ), _band(stress, fps, _BEAT_HERTZ)
    reach = round(_MAX_LAG_SECONDS * fps)
    found = []
    for lag in range(-reach, reach + 1):
        late, early = moved[max(0, lag) : len(moved) + min(0, lag)], heard[max(0, -lag) : len(heard) - max(0, lag)]
        found.append(float(np.corrcoef(late, early)[0, 1]))
    return max(found, key=abs)


_NUM_FRAMES: Final = 375
_EVERY: Final = 15  # frames
_AROUND: Final = 5  # side of the square around pixels of the person that is left out


def background_flow(cached: AnalysedAvatar) -> float:
    """Returns the 95th percentile of the optical flow from the still, in pixels, where neither shows the person.

    NaN if the matte of the still is uncertain: its background moves.
    """
    avatar, layers = cached.avatar, cached.avatar.layers
    if layers is None:
        return float("nan")
    fps = float(avatar.info.fps)
    prosody = prosody_of(SAMPLES / "speech.wav", _NUM_FRAMES, fps)
    shown = avatar.shown_frames(range(_NUM_FRAMES), fps, Playback(), prosody)[::_EVERY].tolist()
    with FrameReader(cached.video, avatar.info, 2**20) as reader:
        (still,) = reader.read([0])
        frames = [frame.y for frame in avatar.frames(reader).read(shown)]
    mattes = avatar.matte_frames(FramesInMemory([still._replace(y=layers.alpha)])).read(shown)
    optical_flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    lengths: list[NDArray[np.float32]] = []
    for luma, matte in zip(frames, mattes, strict=True):
        person = cv2.dilate(np.maximum(layers.alpha, matte.y), np.ones((_AROUND, _AROUND)))
        flow = optical_flow.calc(
            np.ascontiguousarray(still.y), np.ascontiguousarray(luma), np.zeros((*luma.shape, 2), np.float32)
        )
        lengths.append(np.linalg.norm(flow, axis=-1)[person == 0])
    return float(np.percentile(np.concatenate(lengths), 95))


_MAX_SECONDS = 16.0
_PAUSE_SECONDS = 2.5
_HEADINGS = (
    "place: right, down",
    "speed /s",
    "pauses / speech",
    "stress: pitch, brows",
    "brows",
    "corners",
    "blinks/min",
)


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
    said, rate = read_wav(SAMPLES / "speech.wav")
    return write_wav(path, np.tile(np.pad(said, (0, round(_PAUSE_SECONDS * rate))), 2), rate)


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
        middle("place", 1000),
        middle("speed"),
        middle("pause_share"),
        middle("stress"),
        middle("brows", 1000),
        middle("corners", 1000),
        middle("blinks"),
    ]


if __name__ == "__main__":
    typer.run(main)
