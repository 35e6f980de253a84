"""Measures the whites of the eyes relative to the skin: teeth are similarly white and in the same light."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lipwright.media.kept_squares import Square, SquareReader
from lipwright.media.yuv_frame import YuvFrame
from models.avatar.face_region import even_square
from models.geometry.arrays import sample_plane
from models.geometry.head_frame import CHEEK_FRONT, EYE_LEFT, EYE_RIGHT, EYES
from models.track.face_track import FaceTrack

_GREY: Final = np.array([0, 128, 128], np.float32)
# Relative to the cheeks' luma and their distance from grey in U and V: medians of five GRID speakers and the sample
# avatar.
_USUAL: Final = np.array([0.71, 0.55, 0.43], np.float32)
# Luma relative to the skin: fifteen speakers with dark and light skin in many lights have .52 to 1.06. A darker eye is
# hidden by glasses or in the shade of a brow.
_LEAST, _MOST = 0.5, 1.1
_MIN_OPENING: Final = 0.05  # eye distances between the lids: less is a blink
# Sample positions: all but the outermost points along the lids, at these fractions between upper and lower lid.
_ALONG, _SHARES = slice(2, -2), np.linspace(0.2, 0.8, 5)
_WHITE_QUANTILE: Final = 0.75  # of the luma there: the whites are above it, iris and lashes below
_NUM_FRAMES, _FIRST_SECONDS = 5, 4.0
_BORDER: Final = 4  # pixels around the points, which are sampled at half resolution, too

Floats = NDArray[np.float32]


class EyeWhite(NamedTuple):
    """The whites of the eyes relative to the skin of the cheeks.

    Attributes:
        light: Luma relative to the luma of the skin.
        chroma: (2,) U and V minus those of the skin, in levels.
    """

    light: float
    chroma: Floats


def measure_eye_white(track: FaceTrack, fps: float, frames: SquareReader) -> EyeWhite:
    """Measure the eyes in those of the first frames with the widest eyes.

    Return the median; typical values if no eye is visible.
    """
    wide = _widest(track, max(1, round(_FIRST_SECONDS * fps)))
    around = [_around_eyes(track.points[frame]) for frame in wide]
    read = zip(wide, around, frames.squares(list(zip(wide, around, strict=True))), strict=True)
    seen = [eye_white(planes, track.points[frame, :, :2] - [square.x, square.y]) for frame, square, planes in read]
    light = float(np.median([white.light for white in seen]))
    chroma = np.median([white.chroma for white in seen], 0)
    return EyeWhite(min(light, _MOST), np.asarray(chroma, np.float32))


def eye_white(planes: YuvFrame, points: NDArray[np.floating]) -> EyeWhite:
    """Measure one frame with (468, 2+) landmarks in pixels; see `measure_eye_white`."""
    flat = np.asarray(points[:, :2], np.float32)
    is_open = lid_openings(np.asarray(points)[None])[0] >= _MIN_OPENING
    skin = np.median(_colours(planes, flat[list(CHEEK_FRONT)]), 0)
    open_eyes = [_white(planes, flat, eye) for eye, seen in zip(EYES, is_open, strict=True) if seen]
    whites = [white for white in open_eyes if white[0] >= _LEAST * skin[0]]
    # Use the darker eye: in side light the mouth is in the shade. This predicts the teeth of nine speakers in the wild
    # with an error of 17 % (39 % with the lighter eye, 32 % from the skin alone).
    white = min(whites, key=lambda colour: float(colour[0])) if whites else _GREY + _USUAL * (skin - _GREY)
    return EyeWhite(float(white[0] / max(skin[0], 1.0)), np.asarray(white[1:] - skin[1:], np.float32))


def _widest(track: FaceTrack, num_first: int) -> list[int]:
    """Return the frame with the widest eyes in each of a few parts of the first frames that show the face."""
    first = np.flatnonzero(track.visible)
    first = first[first < first[0] + num_first]
    opening = lid_openings(track.points[first]).min(1)
    parts = np.array_split(np.arange(len(first)), min(_NUM_FRAMES, len(first)))
    return [int(first[part[opening[part].argmax()]]) for part in parts]


def _around_eyes(points: NDArray[np.floating]) -> Square:
    """Return a square from the eyes of (468, 3) landmarks down that contains their cheeks."""
    used = points[[*CHEEK_FRONT, *(point for eye in EYES for lid in eye for point in lid)], :2]
    low, high = used.min(0) - _BORDER, used.max(0) + _BORDER
    size = float((high - low).max())
    return even_square(np.array([(low[0] + high[0]) / 2, low[1] + size / 2]), size)


def lid_openings(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the (T, 2) gaps between the lids of (T, 468, 3) faces, in eye distances."""
    faces = np.asarray(points, np.float32)
    unit = np.linalg.norm(faces[:, EYE_LEFT] - faces[:, EYE_RIGHT], axis=-1)
    lids = [[faces[:, list(lid[_ALONG]), :2] for lid in eye] for eye in EYES]
    gaps = [np.linalg.norm(upper - lower, axis=-1).mean(1) for upper, lower in lids]
    return np.asarray(np.stack(gaps, 1) / np.maximum(unit, 1e-6)[:, None])


def _white(planes: YuvFrame, points: Floats, eye: tuple[tuple[int, ...], tuple[int, ...]]) -> Floats:
    """Return (3,) Y, U, V of the lightest part between the lids."""
    upper, lower = (points[list(lid[_ALONG])] for lid in eye)
    between = upper + _SHARES[:, None, None].astype(np.float32) * (lower - upper)
    colours = _colours(planes, between.reshape(-1, 2))
    return np.asarray(colours[colours[:, 0] >= np.quantile(colours[:, 0], _WHITE_QUANTILE)].mean(0), np.float32)


def _colours(planes: YuvFrame, places: Floats) -> Floats:
    """Sample (P, 3) Y, U, V at (P, 2) positions in luma pixels."""
    at_half = ((places + 0.5) / 2 - 0.5).astype(np.float32)
    read = [sample_plane(planes.y, places), sample_plane(planes.u, at_half), sample_plane(planes.v, at_half)]
    return np.stack(read, 1)
