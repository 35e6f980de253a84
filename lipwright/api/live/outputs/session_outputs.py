"""All outputs of one live session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from lipwright.api.live.outputs.output import Output
from lipwright.api.live.protocol import StartOutput, event
from lipwright.api.live.tasks import cancel_all
from lipwright.config import LiveConfig
from lipwright.errors import NotFoundError, OptionError
from lipwright.media.live.encoder import LiveFragment
from lipwright.net.push.destination import Destinations

_MAX_ENDED = 16  # whose status is kept


class SessionOutputs:
    """Starts and stops outputs, and offers every fragment to all of them.

    Args:
        destinations: The allowed destinations.
        live: Limits.
        send: Sends an event to the client of the session.
    """

    def __init__(self, destinations: Destinations, live: LiveConfig, send: Callable[[str], Awaitable[None]]) -> None:
        self._destinations, self._live, self._send = destinations, live, send
        self._outputs: dict[str, Output] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._num_started = 0

    @property
    def are_running(self) -> bool:
        """Whether there is an output that has not ended."""
        return any(not task.done() for task in self._tasks.values())

    def offer(self, fragment: LiveFragment) -> None:
        """Offer a fragment to all outputs."""
        for output_id, task in self._tasks.items():
            if not task.done():
                self._outputs[output_id].offer(fragment)

    def start(self, request: StartOutput) -> None:
        """Start an output. Its ID is in the events that follow.

        Raises:
            UrlRefusedError: The destination is not allowed.
            OptionError: The session has as many outputs as it may.
        """
        destination = self._destinations.check(request.url)
        num_running = sum(not task.done() for task in self._tasks.values())
        if num_running >= self._live.max_outputs:
            raise OptionError(f"url: the session has {num_running} outputs, as many as it may (live.max_outputs).")
        self._num_started += 1
        output = Output(f"output-{self._num_started}", destination, request, self._live, self._changed)
        output_id = output.status.output_id
        self._outputs[output_id] = output
        self._tasks[output_id] = asyncio.create_task(output.run())
        self._forget_ended()

    async def stop(self, output_id: str) -> None:
        """Stop an output.

        Raises:
            NotFoundError: There is none with this ID.
        """
        output, task = self._outputs.get(output_id), self._tasks.get(output_id)
        if output is None or task is None:
            raise NotFoundError(f"output_id: the session has no output {output_id[:40]!r}.")
        if not task.done():
            await cancel_all([task])
            output.status.state, output.status.error = "ended", None
            await self._changed(output)

    async def close(self) -> None:
        """Stop all outputs."""
        await cancel_all(self._tasks.values())

    def describe(self) -> str:
        """Return the event that lists all outputs."""
        return event("output.list", outputs=[output.describe() for output in self._outputs.values()])

    async def _changed(self, output: Output) -> None:
        await self._send(event("output.state_updated", **output.describe()))

    def _forget_ended(self) -> None:
        ended = [output_id for output_id, task in self._tasks.items() if task.done()]
        for output_id in ended[:-_MAX_ENDED]:
            del self._outputs[output_id], self._tasks[output_id]
