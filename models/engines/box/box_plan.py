"""What a network is to hear in every output frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BoxPlan:
    """Output frames [first_frame, first_frame + T); satisfies `models.engines.contract.Plan`.

    Attributes:
        first_frame: Output frame of row 0.
        source_index: (T,) int32 source frame that is shown.
        drive: (T, ...) float32 what the network hears in each frame.
        arrays: Small arrays of T rows that an engine adds, by name.
    """

    first_frame: int
    source_index: NDArray[np.int32]
    drive: NDArray[np.float32]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {"drive": len(self.drive), **{name: len(rows) for name, rows in self.arrays.items()}}
        wrong = {name: length for name, length in lengths.items() if length != len(self.source_index)}
        if wrong:
            raise ValueError(f"Expected {len(self.source_index)} rows in every array, got {wrong}.")

    def __len__(self) -> int:
        return len(self.source_index)

    def slice(self, start: int, stop: int) -> BoxPlan:
        """Return frames [start, stop) as copies, so that a slice does not send the whole."""
        return BoxPlan(
            first_frame=self.first_frame + start,
            source_index=self.source_index[start:stop].copy(),
            drive=self.drive[start:stop].copy(),
            arrays={name: rows[start:stop].copy() for name, rows in self.arrays.items()},
        )
