"""Viewers of a live session: they receive its stream, and send nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from api.live.client_connection import ClientConnection
from api.live.fragment_queue import FragmentQueue
from api.live.protocol import event, fragment_event
from api.live.tasks import first_ended
from errors import BusyError
from media.live.stream_writer import LiveFragment

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
