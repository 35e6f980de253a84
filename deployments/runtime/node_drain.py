"""Tells a replica of the API whether its node is being drained, and whether another one can take its live sessions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from deployments.runtime.ray_internals import is_node_draining
from deployments.runtime.replica_watch import ReplicaWatch, replica_counts
from lipwright.jobs.requests import ReplicaStatus

logger = logging.getLogger(__name__)

_FRESH_S: Final = 1.0
_API: Final = "Ingress"


class NodeDrain:
    """Queries Ray's control store at most once a second.

    Args:
        is_draining: Queries whether the node is being drained; called in a thread.
        replicas: Queries the replicas of each deployment; called in a thread.
    """

    def __init__(
        self,
        is_draining: Callable[[], bool] = is_node_draining,
        replicas: Callable[[], dict[str, ReplicaStatus]] = replica_counts,
    ) -> None:
        self._query, self._replicas = is_draining, ReplicaWatch(replicas)
        self._is_draining, self._asked_at = False, -_FRESH_S

    async def is_draining(self) -> bool:
        """Return whether the node is being drained, as far as is known."""
        if time.monotonic() - self._asked_at >= _FRESH_S:
            self._asked_at = time.monotonic()
            try:
                self._is_draining = await asyncio.to_thread(self._query)
            except Exception as error:  # Ray raises exceptions of any class; the control store may be restarting
                logger.info("could not query whether this node is being drained: %r", error)
        return self._is_draining

    async def has_successor(self) -> bool:
        """Return whether the node is being drained and the API runs on another one.

        Serve starts a replica elsewhere first. Those on nodes that are being drained no longer count as running.
        """
        if not await self.is_draining():
            return False
        api = (await self._replicas.read()).get(_API)
        return api is not None and api.num_running > 0

    async def until_successor(self) -> None:
        """Return once there is a successor."""
        while True:
            if await self.has_successor():
                return
            await asyncio.sleep(_FRESH_S)
