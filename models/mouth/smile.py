"""Reduces a broad smile in a source that does not talk.

People stop smiling before they speak. A source that does not talk only shows its smile, so the mouth would speak with
its corners pulled up and apart. Lips and chin move part of the way towards the average face. The folds of the cheeks
cannot follow, so moving all the way would look like a grimace. Lips that round leave more of the width of the smile,
for as long as they are rounded.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.geometry.head_frame import mean_face
from models.mouth.lip_form import rounding
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
