"""What moves in a face while it speaks: head, brows, lids and corners of the mouth, from its track."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from numpy.typing import NDArray

from config import MediaLimits
from media.audio import extract_speech
from models.avatar.eye_white import lid_openings
from models.geometry.face_points import CORNER_LEFT, CORNER_RIGHT
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
