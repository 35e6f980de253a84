"""Work of which a replica does a few pieces at a time, for callers that take turns."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from lipwright.errors import BusyError, CapacityError
from lipwright.media.cancel_token import CancelToken

_T = TypeVar("_T")

NICENESS: Final = 5
"""For decoders that do such work: on a busy machine, the process that answers requests goes first."""
_MAX_WAITING: Final = 32
_MAX_OWN: Final = 4
_MAX_WAIT_S: Final = 240.0  # the admission of an upload expires two minutes, the time of an inspection, after that
_FIRST_GUESS_S: Final = 2.0
_LATEST_SHARE: Final = 0.2
"""Weight of the latest piece in the moving average of how long a piece takes."""


@dataclass(eq=False)
class _Ticket:
    """A piece of work that waits for its turn, which `turn` resolves to."""

    owner: str | None
    turn: asyncio.Future[None]


class FairQueue:
    """A queue in which API keys take turns.

    The next turn goes to the caller with the fewest, then to the one who was served least recently, so that the many
    pieces of one caller do not delay the piece of another.

    Args:
        work: What the work is, for messages, such as `inspection`.
        num_at_once: Pieces that are worked on at the same time.
        max_waiting: Pieces that may wait.
        max_own: The same of one API key.
        max_wait_s: How long one may wait, in seconds.
        refusal: The error of a piece that is refused.
    """

    def __init__(
        self,
        work: str,
        num_at_once: int = 1,
        max_waiting: int = _MAX_WAITING,
        max_own: int = _MAX_OWN,
        max_wait_s: float = _MAX_WAIT_S,
        refusal: type[CapacityError] = BusyError,
    ) -> None:
        self._work, self._num_at_once, self._refusal = work, num_at_once, refusal
        self._max_waiting, self._max_own, self._max_wait_s = max_waiting, max_own, max_wait_s
        self._waiting: list[_Ticket] = []  # in order of arrival
        self._active_of: Counter[str | None] = Counter()
        self._served_at: dict[str | None, float] = {}
        self._mean_s = _FIRST_GUESS_S

    @asynccontextmanager
    async def turn(self, owner: str | None) -> AsyncIterator[None]:
        """Wait for the owner's turn, which lasts for the block.

        Raises:
            CapacityError: Too many wait, or it took too long; of the class `refusal`.
        """
        await self._acquire(_Ticket(owner, asyncio.get_running_loop().create_future()))
        since = time.monotonic()
        try:
            yield
        finally:
            self._mean_s += _LATEST_SHARE * (time.monotonic() - since - self._mean_s)
            self._release(owner)

    async def _acquire(self, ticket: _Ticket) -> None:
        owner = ticket.owner
        num_own = sum(each.owner == owner for each in self._waiting)
        if owner is not None and num_own >= self._max_own:
            raise self._full(f"{num_own} of this API key are waiting, the limit is {self._max_own}")
        if (num := len(self._waiting)) >= self._max_waiting:
            raise self._full(f"{num} are waiting, the limit is {self._max_waiting}")
        self._waiting.append(ticket)
        self._serve()
        try:
            async with asyncio.timeout(self._max_wait_s):
                await ticket.turn
        except BaseException as error:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            else:
                self._release(owner)  # it got its turn at the same time
            if isinstance(error, TimeoutError):
                raise self._full(f"none was free for {self._max_wait_s:g} s") from None
            raise

    def _release(self, owner: str | None) -> None:
        self._active_of[owner] -= 1
        self._serve()
        self._active_of += Counter()  # drops zeros
        owners = {*self._active_of, *(ticket.owner for ticket in self._waiting)}
        self._served_at = {each: at for each, at in self._served_at.items() if each in owners}

    def _serve(self) -> None:
        """Give free turns to those who wait."""
        while self._waiting and self._active_of.total() < self._num_at_once:
            ticket = min(self._waiting, key=self._rank)
            self._waiting.remove(ticket)
            self._active_of[ticket.owner] += 1
            self._served_at[ticket.owner] = time.monotonic()
            if not ticket.turn.cancelled():
                ticket.turn.set_result(None)

    def _rank(self, ticket: _Ticket) -> tuple[int, float]:
        return self._active_of[ticket.owner], self._served_at.get(ticket.owner, 0.0)

    def _full(self, reason: str) -> CapacityError:
        after_s = max(1.0, self._mean_s * len(self._waiting) / self._num_at_once)
        return self._refusal(f"Too many requests for {self._work}: {reason}. Retry in {after_s:.0f} s.", after_s)


async def run_in_thread(work: Callable[[CancelToken], _T]) -> _T:
    """Run blocking work in a thread. If this is cancelled, so is the work, and this waits for its end."""
    token = CancelToken()
    running = asyncio.ensure_future(asyncio.to_thread(work, token))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        token.cancel()
        await asyncio.wait([running])
        raise
