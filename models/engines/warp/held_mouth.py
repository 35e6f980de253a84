"""The held mouth: the one mouth that an avatar shows where nobody speaks.

Exemplars that measure closed are closed more or less, and landmarks on lips that hardly move tremble; a path through
them would keep the lips moving. So one is held, in its own shape, and only the head moves it. The gap between the lips
and the height of the mouth say which are closed, and of those that are not blurred the one is taken that is the evenest
from lip to lip and has the jaw the highest, by its places in both orders: lips that meet for a sound are drawn over a
jaw that hangs. An independent landmark network sees .006 eye distances on average between the lips of the mouths that
are so chosen, and .015 at most (nine talkers in the wild, whole films and their first halves, and six of the GRID
corpus); by the jaw alone it is .011 and .045, for the middle one of the closed .009 and .026.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.engines.warp.exemplar_bank import ExemplarBank
from models.mouth.shape import CHANNELS, CLOSED_SHARE

_MIN_CLOSED: Final = 5
# Of their median: a blurred mouth is dull as well.
_SHARP_SHARE: Final = 0.7
_CLOSED_BY: Final = [CHANNELS.index("open_in"), CHANNELS.index("open_out")]
_JAW: Final = CHANNELS.index("jaw")


def held_row(bank: ExemplarBank, is_allowed: NDArray[np.bool_] | None = None) -> int:
    """Returns the row of the exemplar that is held in silence.

    Args:
        bank: B > 0 exemplars.
        is_allowed: (B,) bool, at least one; None: all are.
    """
    rows = np.arange(len(bank)) if is_allowed is None else np.flatnonzero(is_allowed)
    openness = bank.shape[rows][:, _CLOSED_BY]
    rank = _places(openness[:, 0]) + _places(openness[:, 1])
    num_closed = max(_MIN_CLOSED, round(CLOSED_SHARE * len(rows)))
    closed = rows[rank.argsort(kind="stable")[:num_closed]]
    is_sharp = bank.sharpness[closed] >= _SHARP_SHARE * np.median(bank.sharpness[closed])
    parted = _places(bank.bands[closed]) + _places(bank.shape[closed, _JAW])
    return int(closed[np.where(is_sharp, parted, np.inf).argmin()])


def _places(values: NDArray[np.floating]) -> NDArray[np.intp]:
    """The place of each in their order."""
    return values.argsort(kind="stable").argsort(kind="stable")
