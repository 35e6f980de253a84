"""Made-up faces and speech, the same on every machine: to compare precisions on, and to measure speed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.engines.wav2lip.layers import MEL_BANDS, WINDOW_COLUMNS

# BGR of what is drawn; the shares of a face box are those of `models.engines.wav2lip.face_box`.
_SKINS = ((150, 180, 225), (90, 120, 170), (50, 70, 110), (190, 200, 235))
_WALL, _EYE, _LIP = (120, 110, 100), (40, 35, 35), (90, 80, 170)
_EYES_Y, _MOUTH_Y = 0.31, 0.70


def sample_faces(num: int, size: int) -> NDArray[np.uint8]:
    """Draw faces.

    Returns:
        (num, size, size, 3) uint8 BGR: an oval with eyes and a mouth, light from one side, grain.
    """
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    faces = np.empty((num, size, size, 3), np.uint8)
    for i in range(num):
        picture = np.empty((size, size, 3))
        picture[:] = _WALL
        picture[_ellipse(x, y, 0.5, 0.5, 0.46, 0.54)] = _SKINS[i % len(_SKINS)]
        for eye in (0.32, 0.68):
            picture[_ellipse(x, y, eye, _EYES_Y, 0.07, 0.03)] = _EYE
        picture[_ellipse(x, y, 0.5, _MOUTH_Y, 0.16, 0.02 + 0.015 * i)] = _LIP
        light = 0.85 + 0.3 * (x if i % 2 else 1 - x)
        grain = np.random.RandomState(i).randint(-4, 5, (size, size, 1))
        faces[i] = (picture * light[..., None] + grain).clip(0, 255)
    return faces


def sample_windows(num: int) -> NDArray[np.float32]:
    """Return (num, 80, 16) float32 mel windows: voiced sound of different pitch between silence and a hiss."""
    band = np.arange(MEL_BANDS)[:, None]
    column = np.arange(WINDOW_COLUMNS)[None]
    windows = np.empty((num, MEL_BANDS, WINDOW_COLUMNS), np.float32)
    for i in range(num):
        harmonics = np.cos(band * (0.7 + 0.2 * (i % 4))) - band / 30
        loudness = np.sin((column + 3 * i) / 5) ** 2
        windows[i] = (-4 + loudness * (3.5 + harmonics)).clip(-4, 4)
    return windows


def _ellipse(
    x: NDArray[np.float64], y: NDArray[np.float64], middle_x: float, middle_y: float, half_x: float, half_y: float
) -> NDArray[np.bool_]:
    return np.asarray(((x - middle_x) / half_x) ** 2 + ((y - middle_y) / half_y) ** 2 < 1)
