"""Leadership of a job table that several services share: one of their Directors runs the jobs, the others wait.

The leader holds a lease by the database's clock and renews it long before its end. It counts the lease itself as well,
from before each renewal was sent: so it has stopped when another one may begin, whatever became of the line between it
and the database. What it wrote too late all the same, the fence of the table refuses.

A service to which callers are sent as soon as it is ready (an upgrade on Kubernetes) may ask the leader for its place.
An older service hands it over: it stops its jobs where they are, and its lease passes to the one that asked.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from errors import LipwrightError, StandbyError, StateError
from storage.job_table import JobTable

logger = logging.getLogger("ray.serve")

Ready = Callable[[], Awaitable[object]]
"""Returns when every stage of the service answers; otherwise raises a LipwrightError."""

LEASE_S: Final = 5.0
"""Ten seconds are promised between the death of a leader and the work of the next one: lease, look and start."""
_RENEWALS: Final = 5  # in the time of one lease
_LOOK_S: Final = 0.5  # of one who waits: half a second of idle time after a lease that was given back
_RETRY_AFTER_S: Final = 2.0
_QUIET_S: Final = 30.0  # between two lines of the log that say the same of a database that is gone


class LeaderElection:
    """Whether this Director leads; lives in the Director.

    Args:
        table: What is led.
        holder: The service; when its Director starts anew, it does not wait for the end of its own lease.
        begin: Called when this one begins to lead.
        end: Called when it does no longer.
        lease_s: Length of the lease.
        asks_when: With it, this one asks a leader of an older service to hand over, once it returns; without, it waits
            for the leader's end. Of two names, an older service's sorts first.
    """

    def __init__(
        self,
        table: JobTable,
        holder: str,
        begin: Callable[[], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
        lease_s: float = LEASE_S,
        asks_when: Ready | None = None,
    ) -> None:
        self._table, self._holder = table, holder
        self._begin, self._end = begin, end
        self._lease_s, self._asks_when = lease_s, asks_when
        self._until = 0.0
        self._leads = False
        self._is_over = False
        self._is_ready = False
        self._heir_until = math.inf  # at first, of an earlier Director of the same service
        self._warned_at = -_QUIET_S

    @property
    def leads(self) -> bool:
        """Whether it is this one, at this moment."""
        return self._leads and (not self._table.is_shared or time.monotonic() < self._until)

    def check(self) -> None:
        """Refuse what the leader alone may do.

        Raises:
            StandbyError: Another one leads, or nobody yet.
        """
        if not self.leads:
            raise StandbyError("Another service leads at the moment, or none yet; this one waits.", _RETRY_AFTER_S)

    async def start(self) -> None:
        """Lead at once, where nobody else can."""
        if not self._table.is_shared:
            await self._table.run_in_thread(self._table.claim)
            self._leads = True
            await self._begin()

    async def run(self) -> None:
        """Lead whenever nobody else does, for ever."""
        while True:
            if self._is_over or not self._table.is_shared:
                await asyncio.sleep(_LOOK_S)
            elif self._leads:
                await self._hold()
            else:
                await self._try()

    async def stop(self) -> None:
        """Lead never again, and end well: whoever waits need not wait for the end of the lease."""
        self._is_over = True
        if self._table.is_shared:
            if self._leads:
                await self._stand_down()
            await self._table.run_in_thread(self._table.release)

    async def _try(self) -> None:
        asked_at = time.monotonic()
        try:
            leads = await self._table.run_in_thread(
                self._table.try_claim, self._holder, self._lease_s, is_successor=asked_at < self._heir_until
            )
            self._leads = leads and not self._is_over
            if leads or math.isinf(self._heir_until):
                self._heir_until = 0.0
            if not leads:
                await self._ask()
        except LipwrightError as error:
            self._warn("nobody leads as far as can be seen from here", error)
        if not self._leads:
            await asyncio.sleep(_LOOK_S)
            return
        self._until = asked_at + self._lease_s
        logger.info("this Director leads now")
        await self._begin()

    async def _hold(self) -> None:
        """Renew the lease, or stand down when it has ended."""
        await asyncio.sleep(self._lease_s / _RENEWALS)
        if not self._leads:
            return
        asked_at = time.monotonic()
        renewal = asyncio.ensure_future(self._table.run_in_thread(self._table.renew, self._lease_s))
        done, _ = await asyncio.wait([renewal], timeout=max(0.0, self._until - asked_at))
        try:
            if done:
                heir = renewal.result()
                self._until = asked_at + self._lease_s
                if heir is not None and not self._is_over:
                    await self._hand_over(heir)
                return
        except StateError as error:
            logger.warning("%s", error)
            await self._stand_down()
            return
        except LipwrightError as error:
            self._warn("the lease cannot be renewed at the moment", error)
        if time.monotonic() >= self._until:
            await self._stand_down()
            await asyncio.wait([renewal])
            renewal.exception()  # too late to matter

    async def _ask(self) -> None:
        """Ask for the leader's place, where this service may have it and could do the work."""
        if self._asks_when is None:
            return
        if not self._is_ready:
            with suppress(LipwrightError):
                await self._asks_when()
                self._is_ready = True
        if self._is_ready and await self._table.run_in_thread(self._table.ask, self._holder, self._lease_s):
            self._heir_until = time.monotonic() + self._lease_s

    async def _hand_over(self, heir: str) -> None:
        logger.info("a newer service asks to lead: %s", heir)
        await self._stand_down()
        try:
            await self._table.run_in_thread(self._table.hand_over, heir, self._lease_s)
        except LipwrightError as error:
            logger.warning("the lease cannot be handed over; it ends by itself: %s", error)

    def _warn(self, what: str, error: LipwrightError) -> None:
        if time.monotonic() - self._warned_at >= _QUIET_S:
            self._warned_at = time.monotonic()
            logger.warning("%s: %s", what, error)

    async def _stand_down(self) -> None:
        self._leads = False
        logger.warning("this Director does not lead any more; its jobs stop, to go on at the one that does")
        await self._end()
