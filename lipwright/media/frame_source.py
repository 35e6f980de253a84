"""Protocol of frame readers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from lipwright.media.yuv_frame import YuvFrame


class FrameSource(Protocol):
    """Frames of one video or picture, by their index. Not thread-safe."""

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        """Yield read-only frames in the order of `indices`; they stay valid while the caller holds them.

        Raises:
            ValueError: An index outside the range.
            MediaError: Nothing can be decoded there.
        """

    def close(self) -> None:
        """Close the source; frames already returned stay valid."""
