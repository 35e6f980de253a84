"""A frozen smile: what a broad smile gives up so that its mouth can speak.

A talker's face goes back from a smile before it speaks. A source that does not talk shows its smile only, and the mouth
would speak with its corners drawn up and apart. Lips and chin can go part of the way to the average face; the folds of
the cheeks stay, and all of the way would look like a grimace.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.geometry.head_frame import mean_face
from models.mouth.shape import CHANNELS, NUM_CHANNELS, measure

# Channel, how far resting faces differ from the mean in eye distances: what is beyond is a smile.
_SMILES: Final = (("width", 0.05), ("corner_y", 0.025))
# On the sample portrait .3 begins to double the folds beside the nose, .5 draws them like a frown.
_SHARE: Final = 0.25


def smile_release(rest: NDArray[np.floating]) -> NDArray[np.float32]:
    """Returns the mouth shape that a smiling face, which shows nothing else, is led to in place of its rest.

    Args:
        rest: (468, 3) closed-mouth points in the head frame.

    Returns:
        (8,) float32 offset from rest in eye distances; zeros for a face that does not smile broadly.
    """
    excess = measure(rest[None])[0] - measure(mean_face()[None])[0]
    offset = np.zeros(NUM_CHANNELS, np.float32)
    is_smile = all(excess[CHANNELS.index(name)] > usual for name, usual in _SMILES)  # drawn apart and up
    for name, usual in _SMILES if is_smile else ():
        channel = CHANNELS.index(name)
        offset[channel] = -_SHARE * (excess[channel] - usual)
    return offset
