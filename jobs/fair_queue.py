"""One piece of work at a time, for callers that take turns."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from errors import BusyError
from media.cancel_token import CancelToken

_T = TypeVar("_T")

NICENESS: Final = 5
"""For decoders that do such work: on a busy machine, the process that answers requests goes first."""
_MAX_WAITING: Final = 32
_MAX_OWN: Final = 4
_MAX_WAIT_S: Final = 240.0  # the admission of an upload expires two minutes, the time of an inspection, after that
_RETRY_AFTER_S: Final = 30.0


class FairQueue:
    """A queue for work of which an Ingress replica does one piece at a time: keys take turns, and waits are bounded.

    Args:
        work: What the work is, for messages, such as `inspection`.
        max_waiting: Requests that may wait.
        max_own: The same of one API key.
        max_wait_s: How long one may wait, in seconds.
    """

    def __init__(
        self, work: str, max_waiting: int = _MAX_WAITING, max_own: int = _MAX_OWN, max_wait_s: float = _MAX_WAIT_S
    ) -> None:
        self._work = work
        self._max_waiting, self._max_own, self._max_wait_s = max_waiting, max_own, max_wait_s
        self._waiting: dict[str | None, deque[asyncio.Future[None]]] = {}  # in the order of the next turns
        self._owner: str | None = None  # of the work that is done
        self._is_busy = False

    @asynccontextmanager
    async def turn(self, owner: str | None) -> AsyncIterator[None]:
        """Wait for the owner's turn, which lasts for the block.

        Raises:
            BusyError: Too many wait, or it took too long.
        """
        if self._is_busy:
            await self._wait(owner)
        self._is_busy, self._owner = True, owner
        try:
            yield
        finally:
            self._hand_over()

    async def _wait(self, owner: str | None) -> None:
        num_own = len(self._waiting.get(owner, ()))
        if owner is not None and num_own >= self._max_own:
            raise self._busy(f"{num_own} of this API key are waiting, the limit is {self._max_own}")
        if (num := sum(map(len, self._waiting.values()))) >= self._max_waiting:
            raise self._busy(f"{num} are waiting, the limit is {self._max_waiting}")
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        try:
            async with asyncio.timeout(self._max_wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._hand_over()
            else:
                self._remove(owner, turn)
            if isinstance(error, TimeoutError):
                raise self._busy(f"none was free for {self._max_wait_s:.0f} s") from None
            raise

    def _hand_over(self) -> None:
        """Give the turn to the next key, and its owner's next request the last place."""
        if (own := self._waiting.pop(self._owner, None)) is not None:
            self._waiting[self._owner] = own
        if not self._waiting:
            self._is_busy = False
            return
        owner = next(iter(self._waiting))
        turn = self._waiting[owner][0]
        self._remove(owner, turn)
        turn.set_result(None)

    def _remove(self, owner: str | None, turn: asyncio.Future[None]) -> None:
        self._waiting[owner].remove(turn)
        if not self._waiting[owner]:
            del self._waiting[owner]

    def _busy(self, reason: str) -> BusyError:
        return BusyError(f"Too many requests for {self._work}: {reason}. Try again later.", _RETRY_AFTER_S)


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
