"""Determines the frame rate of a video from its frame times, ignoring frozen parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

FALLBACK_FPS: Final = Fraction(25)
MAX_FPS: Final = 240
"""Slow motion of phones; higher rates are implausible for a speaker."""
MIN_FPS: Final = 5
"""Below this rate no mouth movement is visible: frames are held on a grid of `FALLBACK_FPS`."""
FREEZE_SECONDS: Final = 0.5
"""A frame shown for this long is a frozen picture; cameras go down to 5 fps in low light."""
_FREEZE_STEPS: Final = 4
_STEADY_SHARE: Final = 0.8
"""Share of steps that must match the nominal rate of a stream with lost frames; a burst capture has fewer."""
_STEADY_STEPS: Final = 1.5
_NOMINAL_RATES: Final = tuple(
    sorted(
        [Fraction(n) for n in range(1, MAX_FPS + 1)] + [Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120, 240)]
    )
)


@dataclass(frozen=True)
class FrameRate:
    """The constant-rate grid that the frames of a stream are mapped to.

    Attributes:
        fps: Frames per second.
        is_variable: Whether frames must be repeated or dropped.
        frozen_seconds: Time for which the picture is frozen, beyond `FREEZE_SECONDS` per frame.
    """

    fps: Fraction
    is_variable: bool
    frozen_seconds: float = 0.0


def frame_rate(
    pts: NDArray[np.int64], time_base: Fraction, last_duration: int, stated: Sequence[Fraction]
) -> FrameRate:
    """Return the rate that all frames keep, else that of the steps that are neither freezes nor lost frames.

    Args:
        pts: (N,) times, ascending, in `time_base` units.
        time_base: Seconds.
        last_duration: Duration of the last frame, in `time_base` units; 0 if unknown.
        stated: Rates stated by the container, best first.
    """
    if len(pts) < 2:
        return FrameRate(stated_rate(stated), False)
    frozen = _frozen_seconds(np.append(np.diff(pts), last_duration), time_base)
    if (constant := _kept_rate([pts], time_base, stated)) is not None and constant >= MIN_FPS:
        return FrameRate(constant, False)
    fps = _nominal_rate(pts, time_base, stated) or _moving_rate(pts, time_base, last_duration, stated)
    return FrameRate(fps if fps >= MIN_FPS else FALLBACK_FPS, True, frozen)


def stated_rate(stated: Sequence[Fraction]) -> Fraction:
    """Return the first plausible rate, for frames without times."""
    return next((nominal_rate(rate) for rate in stated if 1 <= rate <= MAX_FPS), FALLBACK_FPS)


def _nominal_rate(pts: NDArray[np.int64], time_base: Fraction, stated: Sequence[Fraction]) -> Fraction | None:
    """Return the rate that a stream keeps where it lost no frame; None if it has none or lost many."""
    steps = np.diff(pts)
    lost = steps > _STEADY_STEPS * float(np.median(steps))
    if lost.mean() > 1 - _STEADY_SHARE:
        return None
    fps = _kept_rate(_runs(pts, lost), time_base, stated)
    return fps if fps is not None and fps <= MAX_FPS else None


def _moving_rate(
    pts: NDArray[np.int64], time_base: Fraction, last_duration: int, stated: Sequence[Fraction]
) -> Fraction:
    """Return the average rate without the freezes."""
    steps = np.diff(pts)
    still = steps > max(_FREEZE_STEPS * float(np.median(steps)), FREEZE_SECONDS / float(time_base))
    if still.any():
        runs = _runs(pts, still)
        return _kept_rate(runs, time_base, stated) or nominal_rate(_mean_rate(runs, time_base))
    span = int(pts[-1]) - int(pts[0])
    return nominal_rate(len(pts) / ((span + (last_duration or span // (len(pts) - 1))) * time_base))


def _runs(pts: NDArray[np.int64], gaps: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Return the runs of frames between gaps, without single frames; at least one run remains."""
    return [run for run in np.split(pts, np.flatnonzero(gaps) + 1) if len(run) > 1]


def _frozen_seconds(durations: NDArray[np.int64], time_base: Fraction) -> float:
    seconds = durations * float(time_base) - FREEZE_SECONDS
    return float(seconds[seconds > 0].sum())


def _kept_rate(runs: Sequence[NDArray[np.int64]], time_base: Fraction, stated: Sequence[Fraction]) -> Fraction | None:
    """Return a rate that the frames of every run keep."""
    mean = _mean_rate(runs, time_base)
    candidates = [*stated, *sorted(_NOMINAL_RATES, key=lambda rate: abs(rate - mean))[:2], mean.limit_denominator(1001)]
    times = [(run - run[0]) * float(time_base) for run in runs]
    for rate in map(nominal_rate, candidates):
        # A third of a frame covers the rounding of millisecond containers at any rate up to 240.
        if all(np.max(np.abs(seconds * float(rate) - np.arange(len(seconds)))) < 1 / 3 for seconds in times):
            return rate
    return None


def _mean_rate(runs: Sequence[NDArray[np.int64]], time_base: Fraction) -> Fraction:
    num_steps = sum(len(run) - 1 for run in runs)
    return num_steps / (sum(int(run[-1]) - int(run[0]) for run in runs) * time_base)


def nominal_rate(rate: Fraction) -> Fraction:
    """Return the nominal rate within 0.02 %, else the same rate with a denominator that MP4 can store."""
    nominal = min(_NOMINAL_RATES, key=lambda known: abs(known - rate))
    return nominal if abs(nominal - rate) * 5000 <= rate else rate.limit_denominator(1001)
