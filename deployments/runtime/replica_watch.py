"""How many replicas of each deployment run, according to Serve's controller."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from ray import serve
from ray.exceptions import RayError

from lipwright.jobs.requests import ReplicaStatus

logger = logging.getLogger(__name__)

_FRESH_S = 2.0
_USABLE_S = 10.0
_ANSWER_S = 5.0


class ReplicaWatch:
    """Queries Serve's controller at most every two seconds, with one query at a time.

    A query takes 40 to 150 ms. Callers do not wait for it while the last answer is less than ten seconds old. Serve
    waits forever for a dead controller: concurrent queries would use up the threads of this process.
    """

    def __init__(self, ask: Callable[[], dict[str, ReplicaStatus]]) -> None:
        """`ask` queries the controller; it is called in a thread."""
        self._ask = ask
        self._question: asyncio.Task[dict[str, ReplicaStatus]] | None = None
        self._seen: dict[str, ReplicaStatus] = {}
        self._asked_at = self._seen_at = -_USABLE_S

    async def read(self) -> dict[str, ReplicaStatus]:
        """Return the replicas by deployment; the last known ones while the controller does not answer."""
        now = time.monotonic()
        if self._question is None and now - self._asked_at >= _FRESH_S:
            self._asked_at = now
            self._question = asyncio.create_task(asyncio.to_thread(self._ask))
            self._question.add_done_callback(self._take_answer)
        if self._question is not None and now - self._seen_at >= _USABLE_S:
            await asyncio.wait([self._question], timeout=_ANSWER_S)
        return self._seen

    def _take_answer(self, question: asyncio.Task[dict[str, ReplicaStatus]]) -> None:
        self._question = None
        try:
            self._seen, self._seen_at = question.result(), time.monotonic()
        except RayError as error:
            logger.warning("could not query the replicas from Serve's controller: %s", error)


def replica_counts() -> dict[str, ReplicaStatus]:
    """Return the replicas of each deployment of this replica's application. Blocks until Serve's controller answers."""
    application = serve.status().applications.get(serve.get_replica_context().app_name)
    if application is None:
        return {}
    found: dict[str, ReplicaStatus] = {}
    for name, deployment in application.deployments.items():
        num_running = sum(num for state, num in deployment.replica_states.items() if state == "RUNNING")
        found[name] = ReplicaStatus(
            num_running=num_running,
            num_other=sum(deployment.replica_states.values()) - num_running,
            is_healthy=deployment.status != "UNHEALTHY",
        )
    return found
