"""The held mouth: the one mouth that a presenter shows where nobody speaks.

Exemplars that measure closed are closed more or less, and landmarks on lips that hardly move tremble; a path through
them would keep the lips moving. So one is held, in its own shape, and only the head moves it. It is chosen by what its
picture shows: the gap between the lips and the height of the mouth say which are closed, and of those that are not
blurred the one is taken that has the least light between its lips. Teeth in a slit are light, however thin it is. An
independent landmark network sees .002 to .012 eye distances between the lips of the mouths that are so chosen for nine
talkers in the wild; .002 to .062 where the evenest are (teeth make up for the dark beside them), .006 to .025 where the
most usual ones are.
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


def held_row(bank: ExemplarBank, is_allowed: NDArray[np.bool_] | None = None) -> int:
    """Returns the row of the exemplar that is held in silence.

    Args:
        bank: B > 0 exemplars.
        is_allowed: (B,) bool, at least one; None: all are.
    """
    rows = np.arange(len(bank)) if is_allowed is None else np.flatnonzero(is_allowed)
    openness = bank.shape[rows][:, _CLOSED_BY]
    rank = openness.argsort(0, kind="stable").argsort(0, kind="stable").sum(1)
    num_closed = max(_MIN_CLOSED, round(CLOSED_SHARE * len(rows)))
    closed = rows[rank.argsort(kind="stable")[:num_closed]]
    is_sharp = bank.sharpness[closed] >= _SHARP_SHARE * np.median(bank.sharpness[closed])
    return int(closed[np.where(is_sharp, bank.light[closed], np.inf).argmin()])
