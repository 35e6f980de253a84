"""Leader election among the Directors that share a job table: one runs the jobs, the others are on standby.

The leader holds a lease by the clock of the database and renews it well before it ends. It also counts the lease by its
own clock, from before each renewal was sent, so it has stopped before another Director can begin, whatever happens to
the connection. The table's fencing token rejects writes that still arrive late.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from lipwright.errors import LipwrightError, StandbyError, UnavailableError
from lipwright.storage.job_table import JobTable

logger = logging.getLogger(__name__)

LEASE_S: Final = 5.0
"""The next leader promises to work 10 s after the death of the last one: lease, poll and start."""
_RENEWALS: Final = 5  # per lease
_POLL_S: Final = 0.5  # while standing by
_RETRY_AFTER_S: Final = 2.0
_WARNING_INTERVAL_S: Final = 30.0  # between equal log lines about a database that is down


class LeaderElection:
    """Decides whether this Director leads.

    `holder` is the name of the service; its restarted Director does not wait for its own lease to end.
    """

    def __init__(
        self,
        table: JobTable,
        holder: str,
        on_elected: Callable[[], Awaitable[None]],
        on_lost: Callable[[], Awaitable[None]],
        lease_s: float = LEASE_S,
    ) -> None:
        self._table, self._database, self._holder = table, table.database, holder
        self._on_elected, self._on_lost, self._lease_s = on_elected, on_lost, lease_s
        self._until = 0.0
        self._is_leader = False
        self._is_stopped = self._is_draining = False
        self._is_successor = True  # until the first answer, perhaps of an earlier Director of the same service
        self._warned_at = -_WARNING_INTERVAL_S

    @property
    def is_leader(self) -> bool:
        """Whether this Director leads now."""
        return self._is_leader and (not self._database.is_shared or time.monotonic() < self._until)

    @property
    def starts_work(self) -> bool:
        """Whether this Director may start jobs."""
        return self.is_leader and not self._is_draining

    def drain(self) -> None:
        """Reject new work but keep the lead, so that running work can be finished and recorded."""
        self._is_draining = True

    def check(self) -> None:
        """Raise UnavailableError while this Director is draining, StandbyError if it does not lead."""
        if self._is_draining:
            raise UnavailableError("The service is stopping. Try again in a few seconds.", _RETRY_AFTER_S)
        if not self.is_leader:
            raise StandbyError("Another service leads, or none yet; this one is on standby.", _RETRY_AFTER_S)

    async def start(self) -> None:
        """Become the leader at once if the table is not shared."""
        if not self._database.is_shared:
            await self._table.run_in_thread(self._database.claim)
            self._is_leader = True
            await self._on_elected()

    async def run(self) -> None:
        """Lead whenever nobody else does, until cancelled."""
        while True:
            if self._is_stopped or not self._database.is_shared:
                await asyncio.sleep(_POLL_S)
            elif self._is_leader:
                await self._renew_lease()
            else:
                await self._try_to_lead()

    async def stop(self) -> None:
        """Step down permanently and release the lease, so that others need not wait for its end."""
        self._is_stopped = True
        if self._database.is_shared:
            if self._is_leader:
                await self._step_down()
            await self._table.run_in_thread(self._database.release)

    async def _try_to_lead(self) -> None:
        asked_at = time.monotonic()
        try:
            leads = await self._table.run_in_thread(
                self._database.try_claim, self._holder, self._lease_s, is_successor=self._is_successor
            )
            self._is_leader = leads and not self._is_stopped
            self._is_successor = False
        except LipwrightError as error:
            self._warn("cannot reach the job table to become its leader", error)
        if not self._is_leader:
            await asyncio.sleep(_POLL_S)
            return
        self._until = asked_at + self._lease_s
        logger.info("this Director is the leader now")
        await self._on_elected()

    async def _renew_lease(self) -> None:
        """Renew the lease, or step down when it has ended."""
        await asyncio.sleep(self._lease_s / _RENEWALS)
        if not self._is_leader:
            return
        asked_at = time.monotonic()
        renewal = asyncio.ensure_future(self._table.run_in_thread(self._database.renew, self._lease_s))
        done, _ = await asyncio.wait([renewal], timeout=max(0.0, self._until - asked_at))
        try:
            if done:
                renewal.result()
                self._until = asked_at + self._lease_s
                return
        except StandbyError as error:
            logger.warning("%s", error)
            await self._step_down()
            return
        except LipwrightError as error:
            self._warn("could not renew the lease", error)
        if time.monotonic() >= self._until:
            await self._step_down()
            await asyncio.wait([renewal])
            renewal.exception()  # too late to matter

    def _warn(self, what: str, error: LipwrightError) -> None:
        if time.monotonic() - self._warned_at >= _WARNING_INTERVAL_S:
            self._warned_at = time.monotonic()
            logger.warning("%s: %s", what, error)

    async def _step_down(self) -> None:
        self._is_leader = False
        logger.warning("lost leadership: stopping all jobs; the next leader resumes them")
        await self._on_lost()
