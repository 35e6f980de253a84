"""Finds a green or blue screen behind a person, and keys it.

Alpha follows from the chroma: how far it is from that of the screen on the line to neutral grey. The screen's chroma is
estimated in every part of the frame from the pixels around, because screens are lit unevenly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.matte import ScreenColour
from lipwright.media.yuv_frame import YuvFrame
from models.matting.person import coarse_size
from models.matting.refine import Refinement, refine

_BEHIND: Final = 0.05  # probability of a person below which a pixel is background
_MIN_SATURATION: Final = 18.0  # levels of chroma from neutral; painted walls are below
_ALIKE: Final = 0.35  # difference of chroma from the screen's, relative to its saturation
_MIN_SHARE: Final = 0.8  # of the background that must be screen if it is detected
_MIN_SHARE_WANTED: Final = 0.25  # the same if a screen is expected
_MAX_TEXTURE: Final = 6.0  # mean difference of neighbouring luma pixels on a screen, in levels
# Chroma relative to the screen's, 0 (screen) to 1 (neutral): below and above these, alpha is 0 and 1.
_SCREEN, _PERSON = 0.2, 0.9
_SHADOW: Final = 0.4  # share by which a shadow may darken the screen
_DARK: Final = 40.0  # luma below which a screen is too dark for that
_KEYED: Final = Refinement(1 / 160, 1 / 240, epsilon=2e-4, unlikely=0, likely=1, floor=0.5, low=0.04, high=0.96)
_REACH: Final = 1 / 10  # how far from the segmentation hair or hands may be, in longer sides of the frame
_CORE: Final = 1 / 40  # how far inside it everything is opaque
_SEPARATE: Final = 0.1  # alpha below which a pixel separates two parts
_CERTAIN: Final = 0.5  # probability of a person above which a part is the person's


class _Background(NamedTuple):
    """The chroma of pixels that certainly show the background, of one frame."""

    u: NDArray[np.float32]  # (M,) U relative to neutral grey
    v: NDArray[np.float32]  # (M,) V likewise
    texture: float


def find_screen(
    frames: Sequence[YuvFrame], people: Sequence[NDArray[np.float32]], *, is_expected: bool = False
) -> ScreenColour | None:
    """Return the chroma of the green or blue screen in frames of a source; None if there is none.

    Args:
        frames: Some frames.
        people: The probability that each pixel shows a person, of any size; see `PersonSegmenter`.
        is_expected: Whether a caller says that there is one; then other things may be in the background, too.
    """
    seen = [each for frame, person in zip(frames, people, strict=True) if (each := _background(frame, person))]
    if not seen:
        return None
    u, v = (np.concatenate([each[axis] for each in seen]) for axis in (0, 1))
    # Green and blue: skin has more red than neutral grey, a screen has less.
    is_candidate = (np.hypot(u, v) >= _MIN_SATURATION) & (v < 0)
    if is_candidate.mean() < _MIN_SHARE_WANTED:
        return None
    mode = np.array([np.median(u[is_candidate]), np.median(v[is_candidate])])
    is_alike = is_candidate & (np.hypot(u - mode[0], v - mode[1]) < 2 * _ALIKE * np.hypot(*mode))
    is_smooth = min(each.texture for each in seen) < _MAX_TEXTURE
    if is_alike.mean() < (_MIN_SHARE_WANTED if is_expected else _MIN_SHARE) or not (is_smooth or is_expected):
        return None
    return ScreenColour(float(np.median(u[is_alike]) + 128), float(np.median(v[is_alike]) + 128))


def key(frame: YuvFrame, screen: ScreenColour, person: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the (H, W) alpha of a frame in front of a screen, 0 to 255.

    `person` is the probability that a pixel shows a person, of any size: what is far from the person, or separated from
    it by the screen, is transparent, and the inside of the person is opaque even where it has the screen's colour.
    """
    height, width = frame.u.shape
    person = cv2.resize(person, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    u, v = (plane.astype(np.float32) - 128 for plane in frame[1:])
    luma = cv2.resize(frame.y, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    far, core = _far_and_core(person)
    around = _screen_around((u, v, luma), screen, person)
    saturation = np.maximum(np.hypot(around[0], around[1]), 1.0)
    towards = (u * around[0] + v * around[1]) / saturation**2  # 1: the screen, 0: neutral
    across = np.abs(u * around[1] - v * around[0]) / saturation**2
    distance = np.hypot(np.maximum(1 - towards, 0), across)
    # Dark blue clothes before a blue screen: far darker than any shadow on it.
    contrast = np.abs(luma - around[2]) / np.maximum(around[2], _DARK)
    distance = np.maximum(distance, (contrast - _SHADOW) / (1 - 2 * _SHADOW))
    alpha = np.clip((distance - _SCREEN) / (_PERSON - _SCREEN), 0, 1)
    alpha = np.maximum(alpha, core) * (1 - far)
    alpha *= _connected(alpha, person)
    size = coarse_size(frame.y.shape[1], frame.y.shape[0])
    return refine(frame, np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA), np.float32), _KEYED)


def _far_and_core(person: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return two weights: of pixels that cannot show a person, and of pixels that certainly do."""
    longest = max(person.shape)

    def disc(share: float) -> NDArray[np.uint8]:
        side = 2 * max(1, round(share * longest)) + 1
        return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)

    soft = (max(3, round(longest / 80) | 1),) * 2
    near = cv2.dilate((person > 0.3).astype(np.float32), disc(_REACH))
    core = cv2.erode((person > 0.9).astype(np.float32), disc(_CORE))
    return (
        np.asarray(1 - np.minimum(cv2.blur(near, soft), 1), np.float32),
        np.asarray(cv2.blur(core, soft), np.float32),
    )


def _connected(alpha: NDArray[np.float32], person: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which pixels are connected with the person, unlike the edge of a screen above the head."""
    _, parts = cv2.connectedComponents((alpha > _SEPARATE).astype(np.uint8))
    is_own = np.zeros(int(parts.max()) + 1, bool)
    is_own[parts[person > _CERTAIN]] = True
    is_own[0] = True  # the soft outline
    return np.asarray(is_own[parts], np.bool_)


def _screen_around(
    seen: tuple[NDArray[np.float32], ...], screen: ScreenColour, person: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Return U and V from neutral, and luma, of the screen in every pixel; extended behind the person.

    `seen` are those of the frame.
    """
    own, (u, v, luma) = (screen.u - 128, screen.v - 128), seen
    is_screen = np.hypot(u - own[0], v - own[1]) < 2 * _ALIKE * np.hypot(*own)
    weight = (is_screen & (person < 0.5)).astype(np.float32)
    sides = [max(3, round(share * max(u.shape)) | 1) for share in (1 / 24, 1 / 6)]
    level = float((weight * luma).sum() / max(float(weight.sum()), 1.0))
    found = [np.full_like(u, value) for value in (*own, level)]
    for side in reversed(sides):  # the widest first; narrower means replace it where they see enough
        total = cv2.blur(weight, (side, side))
        share = np.minimum(total / 0.3, 1)
        found = [
            before + share * (cv2.blur(weight * plane, (side, side)) / np.maximum(total, 1e-4) - before)
            for before, plane in zip(found, seen, strict=True)
        ]
    return [np.asarray(plane, np.float32) for plane in found]


def _background(frame: YuvFrame, person: NDArray[np.float32]) -> _Background | None:
    """Return what is certainly background; None if that is too little."""
    height, width = person.shape
    u, v = (cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) for plane in frame[1:])
    is_behind = cv2.erode((person < _BEHIND).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    if is_behind.mean() < 0.05:
        return None
    luma = cv2.resize(frame.y, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    texture = np.abs(cv2.Laplacian(luma, cv2.CV_32F))[is_behind].mean()
    return _Background(u[is_behind] - 128, v[is_behind] - 128, float(texture))
