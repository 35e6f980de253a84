"""How certain a matte is. Stored beside it and returned by the API."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from lipwright.media.matte import ScreenColour

MATTE_VERSION: Final = "2"
"""Part of the key of mattes: increment it when a change affects mattes."""

PRESENCE_SIDE: Final = 64
_TRIMMED: Final = 0.01  # of the person, beyond each edge of the box: the tips of hair and shoulders

_MIN_PERSON: Final = 0.005  # share of the picture below which it shows no person
_UNCERTAIN_SHARE: Final = 0.12
_MIN_SECONDS: Final = 0.2  # shorter ranges are not reported
_MAX_GAP_SECONDS: Final = 0.5  # longest gap within a range


class UncertainRange(BaseModel):
    """A half-open time range of the source in which the matte is uncertain."""

    model_config = ConfigDict(frozen=True)

    start: float = Field(description="Seconds from the start of the source.")
    end: float = Field(description="Seconds from the start of the source, exclusive.")
    has_person: bool = Field(description="Whether anybody is found at all.")


class MatteReport(BaseModel):
    """Report of a finished matte."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    mode: Literal["person", "chroma"] = Field(description="How it was made: by a segmentation network, or by keying.")
    screen: ScreenColour | None = Field(None, description="The chroma of the screen, 0 to 255; null for `person`.")
    sha256: str = Field(description="SHA-256 of the matte's file, hexadecimal.")
    uncertain_share: float = Field(description="Uncertain pixels over the pixels of the person, mean of all frames.")
    uncertain: tuple[UncertainRange, ...] = Field(
        (), description="When more than 12 % of the pixels are uncertain, or nobody is seen."
    )
    person_box: tuple[float, float, float, float] | None = Field(
        None,
        description="Left, upper, right and lower edge of the part of the picture in which the person is for half of "
        "the time, as shares of its width and height; null if unknown.",
    )


def certainty(coarse: NDArray[np.float32]) -> tuple[float, float]:
    """Return the share of the picture that shows the person, and that which is uncertain, of a coarse matte."""
    person = float((coarse >= 0.5).mean())
    return person, float(((coarse > 0.25) & (coarse < 0.75)).mean())


def presence(alpha: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return where an (H, W) matte shows the person, 0 or 1, (PRESENCE_SIDE, PRESENCE_SIDE)."""
    small = cv2.resize(alpha, (PRESENCE_SIDE, PRESENCE_SIDE), interpolation=cv2.INTER_AREA)
    return (small > 127).astype(np.float32)


def person_box(mean_presence: NDArray[np.float32]) -> tuple[float, float, float, float] | None:
    """Returns `MatteReport.person_box`, given the mean `presence` of all frames; None if nobody is there."""
    often = np.where(mean_presence >= 0.5, mean_presence, 0)
    if not often.any():
        return None
    (left, right), (top, bottom) = (_middle(often.sum(axis=axis)) for axis in (0, 1))
    return left, top, right, bottom


def _middle(profile: NDArray[np.float32]) -> tuple[float, float]:
    """Return start and end, from 0 to 1, of a profile without its _TRIMMED at each end."""
    share = np.cumsum(profile) / profile.sum()
    start, last = np.searchsorted(share, (_TRIMMED, 1 - _TRIMMED)).tolist()
    return start / len(profile), (last + 1) / len(profile)


def uncertain_ranges(shares: NDArray[np.float32], fps: Fraction) -> list[UncertainRange]:
    """Return when a matte is uncertain, given the (T, 2) `certainty` of all frames."""
    person, uncertain = shares.T
    is_missing = person < _MIN_PERSON
    is_uncertain = is_missing | (uncertain > _UNCERTAIN_SHARE * np.maximum(person, _MIN_PERSON))
    ranges = []
    for start, stop in _runs(np.flatnonzero(is_uncertain).tolist(), _MAX_GAP_SECONDS * float(fps)):
        if (stop - start) / fps >= _MIN_SECONDS or len(shares) == 1:
            has_person = not bool(is_missing[start:stop].all())
            times = round(float(start / fps), 3), round(float(stop / fps), 3)
            ranges.append(UncertainRange(start=times[0], end=times[1], has_person=has_person))
    return ranges


def _runs(frames: Sequence[int], max_gap: float) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for frame in frames:
        if runs and frame - runs[-1][1] <= max_gap:
            runs[-1] = runs[-1][0], frame + 1
        else:
            runs.append((frame, frame + 1))
    return runs
