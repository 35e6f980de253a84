"""The tracked person: appearances of their face, and of other faces seen next to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.face.appearance import APPEARANCE_SIZE, CLEAR_LEAD, SAME_PERSON, likeness

_MAX_APPEARANCES = 6
_MAX_OTHERS = 3
_NEW_VIEW = 0.8  # an appearance less similar than this to all known ones is kept

# Within an unbroken run of frames the face counts as the same person down to this similarity.
STILL_SAME: Final = 0.25


@dataclass(frozen=True)
class Person:
    """Appearances in half precision, because they are sent with every chunk.

    Attributes:
        appearances: (K, 240) float16 appearances of the person.
        others: (M, 240) float16 appearances of people seen next to the person.
    """

    appearances: NDArray[np.float16]
    others: NDArray[np.float16]

    @classmethod
    def of(cls, appearance: NDArray[np.floating], others: Sequence[NDArray[np.floating]] = ()) -> Person:
        """Returns a person seen once, with the other faces in the frame."""
        beside = np.array(others[:_MAX_OTHERS], np.float16).reshape(-1, APPEARANCE_SIZE)
        return cls(np.asarray(appearance, np.float16)[None], beside)

    def likeness(self, appearance: NDArray[np.floating]) -> float:
        """Returns the similarity of an appearance to the person, -1..1."""
        return likeness(appearance, self.appearances)

    def learn(self, appearance: NDArray[np.floating]) -> Person:
        """Adds an appearance that is known to be the person's, if it is new and there is room."""
        if len(self.appearances) >= _MAX_APPEARANCES or not SAME_PERSON <= self.likeness(appearance) < _NEW_VIEW:
            return self
        return replace(self, appearances=np.concatenate([self.appearances, np.asarray(appearance, np.float16)[None]]))

    def recognise(self, appearances: Sequence[NDArray[np.floating]]) -> tuple[list[int], bool]:
        """Returns the indices of the appearances that may be the person, best first, and whether the match is certain.

        It is certain if there is a single candidate that is clearly more similar to the person than to the others.
        """
        scores = [self.likeness(appearance) for appearance in appearances]
        alike = sorted((i for i in range(len(appearances)) if scores[i] >= SAME_PERSON), key=lambda i: -scores[i])
        able = [i for i in alike if scores[alike[0]] - scores[i] < CLEAR_LEAD]
        is_sure = len(able) == 1 and scores[able[0]] > likeness(appearances[able[0]], self.others) + CLEAR_LEAD
        return able, is_sure
