"""Decides whose text is spoken next, when more texts are sent than are spoken at the same time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from errors import CapacityError

_MAX_WAITING: Final = 64
"""Texts of one caller that wait. All together are limited by the queue of jobs."""
_FIRST_GUESS_S: Final = 2.0
_LATEST_SHARE: Final = 0.2
"""Weight of the latest text in the moving average of how long a text takes."""


@dataclass(eq=False)
class _Ticket:
    """A text that waits for a slot, which `slot` resolves to."""

    owner: str | None
    slot: asyncio.Future[None]


class VoiceSlots:
    """Slots for texts that are spoken at the same time.

    A free slot goes to the caller who holds the fewest, then to the one who was served least recently, so that the many
    texts of one caller do not delay the text of another.

    Args:
        num_slots: Texts that are spoken at the same time.
        max_wait_s: How long a text waits.
    """

    def __init__(self, num_slots: int, max_wait_s: float) -> None:
        self._num_slots, self._max_wait_s = num_slots, max_wait_s
        self._waiting: list[_Ticket] = []  # in order of arrival
        self._active_of: Counter[str | None] = Counter()
        self._served_at: dict[str | None, float] = {}
        self._mean_s = _FIRST_GUESS_S

    @asynccontextmanager
    async def take(self, owner: str | None) -> AsyncIterator[None]:
        """Wait for a slot and hold it during the block.

        Raises:
            CapacityError: Too many texts wait, or no slot became free in time.
        """
        await self._acquire(_Ticket(owner, asyncio.get_running_loop().create_future()))
        since = time.monotonic()
        try:
            yield
        finally:
            self._mean_s += _LATEST_SHARE * (time.monotonic() - since - self._mean_s)
            self._release(owner)

    async def _acquire(self, ticket: _Ticket) -> None:
        if sum(each.owner == ticket.owner for each in self._waiting) >= _MAX_WAITING:
            raise self._full(f"{_MAX_WAITING} texts are waiting")
        self._waiting.append(ticket)
        self._serve()
        try:
            async with asyncio.timeout(self._max_wait_s):
                await ticket.slot
        except BaseException as error:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            else:
                self._release(ticket.owner)  # it got a slot at the same time
            if isinstance(error, TimeoutError):
                raise self._full(f"no slot became free within {self._max_wait_s:g} s") from None
            raise

    def _release(self, owner: str | None) -> None:
        self._active_of[owner] -= 1
        self._serve()
        self._active_of += Counter()  # drops zeros
        owners = {*self._active_of, *(ticket.owner for ticket in self._waiting)}
        self._served_at = {each: at for each, at in self._served_at.items() if each in owners}

    def _serve(self) -> None:
        """Give free slots to those who wait."""
        while self._waiting and self._active_of.total() < self._num_slots:
            ticket = min(self._waiting, key=self._rank)
            self._waiting.remove(ticket)
            self._active_of[ticket.owner] += 1
            self._served_at[ticket.owner] = time.monotonic()
            if not ticket.slot.cancelled():
                ticket.slot.set_result(None)

    def _rank(self, ticket: _Ticket) -> tuple[int, float]:
        return self._active_of[ticket.owner], self._served_at.get(ticket.owner, 0.0)

    def _full(self, reason: str) -> CapacityError:
        after_s = max(1.0, self._mean_s * len(self._waiting) / self._num_slots)
        return CapacityError(f"The voice is busy: {reason}. Retry in {after_s:.0f} s.", after_s)
