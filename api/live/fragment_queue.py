"""Queue between a live session and one of its viewers, which may be slow."""

from __future__ import annotations

import asyncio
from collections import deque

from media.live.stream_writer import LiveFragment


class FragmentQueue:
    """Holds the latest fragments. The session never waits: if a viewer is too slow, the oldest ones are dropped.

    Args:
        max_seconds: Stream that it holds.

    Attributes:
        dropped_seconds: Stream that was dropped.
    """

    def __init__(self, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._fragments: deque[LiveFragment] = deque()
        self._has_any = asyncio.Event()
        self.dropped_seconds = 0.0

    def offer(self, fragment: LiveFragment) -> None:
        """Append a fragment."""
        self._fragments.append(fragment)
        self._has_any.set()
        while fragment.start_seconds - self._fragments[0].start_seconds > self._max_seconds:
            self.dropped_seconds += self._fragments.popleft().duration_seconds

    async def get(self) -> LiveFragment:
        """Remove and return the oldest fragment; waits for one."""
        while not self._fragments:
            self._has_any.clear()
            await self._has_any.wait()
        return self._fragments.popleft()

    def clear(self) -> None:
        """Remove all fragments, without counting them as dropped."""
        self._fragments.clear()
