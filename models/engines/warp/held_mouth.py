"""The held mouth: the one mouth that a presenter shows where nobody speaks.

Exemplars that measure closed are closed more or less, and landmarks on lips that hardly move tremble; a path through
them would keep the lips moving. So one is held, in its own shape, and only the head moves it. It is chosen by what its
picture shows: the gap between the lips, the height of the mouth, and which of the closed mouths looks most like all of
them, as one that is about to open, or is pressed shut for a single sound, does not.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.engines.warp.exemplar_bank import ExemplarBank
from models.mouth.shape import CHANNELS

_CLOSED_SHARE: Final = 0.1  # of the exemplars; all 15 clips at hand close their mouths at least so often
_MIN_CLOSED: Final = 5  # fewer have no most typical one
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
    num_closed = max(_MIN_CLOSED, round(_CLOSED_SHARE * len(rows)))
    closed = rows[rank.argsort(kind="stable")[:num_closed]]
    likeness = bank.thumbs[closed] @ bank.thumbs[closed].T
    unlike = np.sqrt((1 - likeness).clip(0)).sum(1)
    return int(closed[unlike.argmin()])
