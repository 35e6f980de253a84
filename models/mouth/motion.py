"""Statistics of mouth motion, smiles, and the reduction of a broad one in a source that does not talk.

People stop smiling before they speak. A source that does not talk only shows its smile, so the mouth would speak with
its corners pulled up and apart. Lips and chin move part of the way towards the average face. The folds of the cheeks
cannot follow, so moving all the way would look like a grimace. Lips that round leave more of the width of the smile,
for as long as they are rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.geometry.head_frame import INNER_LOWER, INNER_UPPER, MOVED, OUTER_LOWER, OUTER_UPPER, mean_face
from models.mouth.lip_form import rounding
from models.mouth.lip_model import LipModel
from models.mouth.shape import CHANNELS, NUM_CHANNELS, measure

# Channel, and how far a resting face may exceed the mean in eye distances. More than that is a smile.
_SMILES: Final = (("width", 0.05), ("corner_y", 0.025))
# On the sample portrait, .3 starts to double the folds beside the nose, and .5 makes them look like a frown.
_SHARE: Final = 0.25
# Share of the width that rounded lips leave. Corners keep their height: lowered by .6 they bend the ends of the lips.
_ROUNDED_SHARE: Final = 0.6
# Lips that are wider than usual by this much have no room left to spread, in eye distances.
_FULLY_SPREAD: Final = 0.15
_WIDTH: Final = CHANNELS.index("width")


def smile_release(rest: NDArray[np.floating], shape: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the offsets that take a part of its smile from a smiling still.

    Args:
        rest: (468, 3) closed-mouth points in the head frame.
        shape: (T, 8) mouth shapes to show, as offsets from rest in eye distances.

    Returns:
        (T, 8) float32 to add to `shape`; zeros without a broad smile.
    """
    excess = measure(rest[None])[0] - measure(mean_face()[None])[0]
    offset = np.zeros(NUM_CHANNELS, np.float32)
    is_smile = all(excess[CHANNELS.index(name)] > usual for name, usual in _SMILES)  # wide, with raised corners
    for name, usual in _SMILES if is_smile else ():
        channel = CHANNELS.index(name)
        offset[channel] = usual - excess[channel]
    share = np.full(shape.shape, _SHARE, np.float32)
    share[:, _WIDTH] += (_ROUNDED_SHARE - _SHARE) * rounding(shape)
    release = share * offset
    release[:, _WIDTH] -= min(-offset[_WIDTH] / _FULLY_SPREAD, 1) * shape[:, _WIDTH].clip(0)
    return release


# Eye distances by which the corners of the mouth rise, and it widens, in a full smile.
_CORNERS, _WIDER = 0.065, 0.055


def smiling(smile: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the (T, 8) offsets of mouth shapes for (T,) smiles: 1 is a full one, -1 has corners as far down."""
    offset = np.zeros((len(smile), NUM_CHANNELS), np.float32)
    offset[:, CHANNELS.index("corner_y")] = _CORNERS * smile
    offset[:, _WIDTH] = _WIDER * smile.clip(0)
    return offset


REFERENCE_FPS: Final = 25.0
_LIPS = sorted({*OUTER_UPPER, *OUTER_LOWER, *INNER_UPPER, *INNER_LOWER})


@dataclass(frozen=True)
class RunningStats:
    """Count, sum and sum of squares of some values. Instances add up."""

    num: int = 0
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> RunningStats:
        """Return the statistics of an array of any shape."""
        exact = values.astype(np.float64)
        return cls(exact.size, float(exact.sum()), float((exact**2).sum()))

    def __add__(self, other: RunningStats) -> RunningStats:
        return RunningStats(self.num + other.num, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float | None:
        """Arithmetic mean; None without values."""
        return self.total / self.num if self.num else None

    @property
    def std(self) -> float | None:
        """Standard deviation; None without values."""
        if not self.num:
            return None
        return float(max(0.0, self.squares / self.num - (self.total / self.num) ** 2) ** 0.5)

    @property
    def rms(self) -> float | None:
        """Root mean square; None without values."""
        return float((self.squares / self.num) ** 0.5) if self.num else None


def lip_jitter(
    shape: NDArray[np.float32], counts: NDArray[np.bool_], fps: Fraction, shot: NDArray[np.int32] | None = None
) -> RunningStats:
    """Measure the second differences of the lip points; their `rms` is the jitter.

    Args:
        shape: (T, 8) mouth shapes of consecutive frames.
        counts: (T,) frames to include; a second difference is included if all of its three frames are.
        fps: Frame rate. Differences are scaled to 25 fps.
        shot: (T,) shot number of each frame; differences across a cut are left out. None: one shot.

    Returns:
        Statistics of up to T - 2 values in eye distances, each the root mean square over the 40 lip points.
    """
    inside = counts[:-2] & counts[1:-1] & counts[2:]
    if shot is not None:
        inside &= shot[:-2] == shot[2:]
    steps = np.diff(shape.astype(np.float64), 2, axis=0)[inside] * (float(fps) / REFERENCE_FPS) ** 2
    squares = ((steps @ _lip_gram()) * steps).sum(1)
    return RunningStats.of(np.sqrt(np.maximum(squares, 0.0)))


@cache
def _lip_gram() -> NDArray[np.float64]:
    """(8, 8) such that `d @ gram @ d` is the mean squared displacement of the lip points for a change of shape `d`."""
    rows = [MOVED.index(point) for point in _LIPS]
    ways = LipModel.load().weights[:, rows].astype(np.float64)  # (8, 40, 3)
    gram: NDArray[np.float64] = np.einsum("apx,bpx->ab", ways, ways) / len(rows)
    return gram
