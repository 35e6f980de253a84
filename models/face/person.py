"""What is known of the person who is followed: looks of the face, and looks of the faces that are not meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.face.appearance import APPEARANCE_SIZE, CLEAR_LEAD, SAME_PERSON, likeness

_MAX_LOOKS = 6
_MAX_OTHERS = 3
_NEW_VIEW = 0.8  # less like all known looks than this is worth keeping

# In an unbroken run of frames the face is the same until its look speaks clearly against it.
STILL_SAME: Final = 0.25


@dataclass(frozen=True)
class Person:
    """Looks in half precision: they travel with every chunk.

    Attributes:
        looks: (K, 240) float16 looks of the person.
        others: (M, 240) float16 looks of people seen beside the person.
    """

    looks: NDArray[np.float16]
    others: NDArray[np.float16]

    @classmethod
    def of(cls, look: NDArray[np.floating], others: Sequence[NDArray[np.floating]] = ()) -> Person:
        """Somebody seen once, and the others in the picture."""
        beside = np.array(others[:_MAX_OTHERS], np.float16).reshape(-1, APPEARANCE_SIZE)
        return cls(np.asarray(look, np.float16)[None], beside)

    def likeness(self, look: NDArray[np.floating]) -> float:
        """How much a look is like the person, -1..1."""
        return likeness(look, self.looks)

    def learn(self, look: NDArray[np.floating]) -> Person:
        """Adds a look of the person that is known to be theirs, if it shows something new and there is room."""
        if len(self.looks) >= _MAX_LOOKS or not SAME_PERSON <= self.likeness(look) < _NEW_VIEW:
            return self
        return replace(self, looks=np.concatenate([self.looks, np.asarray(look, np.float16)[None]]))

    def recognise(self, looks: Sequence[NDArray[np.floating]]) -> tuple[list[int], bool]:
        """Returns the indices of the looks that can be the person's, best first, and whether that is sure.

        It is sure where there is one, and it is not as much like somebody else who was seen beside the person.
        """
        scores = [self.likeness(look) for look in looks]
        alike = sorted((i for i in range(len(looks)) if scores[i] >= SAME_PERSON), key=lambda i: -scores[i])
        able = [i for i in alike if scores[alike[0]] - scores[i] < CLEAR_LEAD]
        is_sure = len(able) == 1 and scores[able[0]] > likeness(looks[able[0]], self.others) + CLEAR_LEAD
        return able, is_sure
