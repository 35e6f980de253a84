"""What the engine shows in some output frames, and what it hears there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.engines.box.box_chunk import BoxChunk
from models.engines.ultralight.heard import HeardRows
from models.engines.ultralight.variant import Hears

CENTRES, IDS, ROWS = "centres", "ids", "rows"
"""Names in a chunk: of the faces' rows, of the rows that are there, and of what they hold; see `HeardRows`."""


@dataclass(frozen=True)
class UltralightPlan:
    """T output frames; satisfies `models.engines.contract.Plan`.

    Attributes:
        first_frame: Output frame of row 0.
        source_index: (T,) int32 source frame that is shown.
        heard: The sound around them, every row once.
    """

    first_frame: int
    source_index: NDArray[np.int32]
    heard: HeardRows

    def __post_init__(self) -> None:
        if len(self.heard) != len(self.source_index):
            raise ValueError(f"Expected sound for {len(self.source_index)} frames, got {len(self.heard)}.")

    def __len__(self) -> int:
        return len(self.source_index)

    def slice(self, start: int, stop: int) -> UltralightPlan:
        """Return frames [start, stop) as copies, so that a slice does not send the whole."""
        return UltralightPlan(
            self.first_frame + start, self.source_index[start:stop].copy(), self.heard.slice(start, stop)
        )


def heard_by_faces(chunk: BoxChunk, hears: Hears) -> HeardRows:
    """Return what the N faces of a chunk of this engine hear."""
    centres = chunk.arrays[CENTRES]
    return HeardRows(hears, centres, chunk.extra[IDS], chunk.extra[ROWS], np.ones(len(centres), np.float32))
