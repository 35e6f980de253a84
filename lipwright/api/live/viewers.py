"""Viewers of a live session: they receive its stream, each through a queue, and send nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from lipwright.api.live.client_connection import ClientConnection
from lipwright.api.live.protocol import event, fragment_event
from lipwright.api.live.tasks import first_ended
from lipwright.errors import BusyError
from lipwright.media.live.encoder import LiveFragment


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


_RETRY_S = 5.0


class Viewers:
    """The viewers of one session.

    Args:
        max_viewers: How many there may be.
        buffer_seconds: Stream that waits for a slow viewer.
        head: Returns the media type and the initialization segment; None before the first fragment.
    """

    def __init__(self, max_viewers: int, buffer_seconds: float, head: Callable[[], tuple[str, bytes] | None]) -> None:
        self._max_viewers, self._buffer_seconds, self._head = max_viewers, buffer_seconds, head
        self._queues: set[FragmentQueue] = set()
        self._is_over = asyncio.Event()

    def offer(self, fragment: LiveFragment) -> None:
        """Offer a fragment to all viewers."""
        for queue in self._queues:
            queue.offer(fragment)

    def close(self) -> None:
        """End the stream of all viewers."""
        self._is_over.set()

    async def show(self, connection: ClientConnection) -> None:
        """Send the stream to a viewer until the session ends or the viewer is lost.

        Raises:
            BusyError: The session has as many viewers as it may.
        """
        if len(self._queues) >= self._max_viewers:
            raise BusyError(f"The live session has {self._max_viewers} viewers, as many as it may.", _RETRY_S)
        queue = FragmentQueue(self._buffer_seconds)
        self._queues.add(queue)
        try:
            await first_ended(self._send(queue, connection), self._is_over.wait(), connection.until_lost())
        finally:
            self._queues.discard(queue)

    async def _send(self, queue: FragmentQueue, connection: ClientConnection) -> None:
        fragment = await queue.get()
        head = self._head()
        assert head is not None, "the first fragment has made it"
        await connection.send_text(event("session.stream", media_type=head[0]))
        await connection.send_bytes(head[1])
        while True:
            await connection.send_text(fragment_event(fragment))
            await connection.send_bytes(fragment.mp4)
            fragment = await queue.get()
