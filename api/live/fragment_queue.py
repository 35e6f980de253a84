"""Queue between a live session and one of its viewers, which may be slow."""

from __future__ import annotations

import asyncio
from collections import deque

from media.live.stream_writer import LiveFragment


class FragmentQueue:
    """Holds the latest fragments. The session never waits: if a viewer is too slow, the oldest ones are dropped.

    What a viewer receives begins with a keyframe, at first and after a gap.

    Args:
        max_seconds: Stream that it holds.
    """

    def __init__(self, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._fragments: deque[LiveFragment] = deque()
        self._has_any = asyncio.Event()
        self._awaits_key = True

    def offer(self, fragment: LiveFragment) -> None:
        """Append a fragment."""
        if self._awaits_key and not fragment.pictures.is_key:
            return
        self._awaits_key = False
        self._fragments.append(fragment)
        self._has_any.set()
        while fragment.start_seconds - self._fragments[0].start_seconds > self._max_seconds:
            self._drop_to_key()
            if not self._fragments:
                self._awaits_key = True
                return

    async def get(self) -> LiveFragment:
        """Remove and return the oldest fragment; waits for one."""
        while not self._fragments:
            self._has_any.clear()
            await self._has_any.wait()
        return self._fragments.popleft()

    def clear(self) -> None:
        """Remove all fragments."""
        self._fragments.clear()
        self._awaits_key = True

    def _drop_to_key(self) -> None:
        """Drop the oldest fragment, and those that refer to it."""
        while True:
            self._fragments.popleft()
            if not self._fragments or self._fragments[0].pictures.is_key:
                return
