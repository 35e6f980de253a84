"""How many replicas of each deployment run, as Serve's controller says."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from ray.exceptions import RayError

from jobs.status import ReplicaStatus

logger = logging.getLogger(__name__)

_FRESH_S = 2.0
_ANSWER_S = 5.0


class ReplicaWatch:
    """Asks Serve's controller how many replicas run; not more often than every two seconds, and one question at a time.

    Serve waits without a bound for a controller that is dead: more questions would take all threads of this process.
    """

    def __init__(self, ask: Callable[[], dict[str, ReplicaStatus]]) -> None:
        """`ask` puts the question, in a thread."""
        self._ask = ask
        self._question: asyncio.Task[dict[str, ReplicaStatus]] | None = None
        self._seen: dict[str, ReplicaStatus] = {}
        self._asked_at = -_FRESH_S

    async def read(self) -> dict[str, ReplicaStatus]:
        """Replicas of each deployment of this application; the last known ones while the controller is silent."""
        if self._question is None and time.monotonic() - self._asked_at >= _FRESH_S:
            self._asked_at = time.monotonic()
            self._question = asyncio.create_task(asyncio.to_thread(self._ask))
            self._question.add_done_callback(self._answered)
        if self._question is not None:
            await asyncio.wait([self._question], timeout=_ANSWER_S)
        return self._seen

    def _answered(self, question: asyncio.Task[dict[str, ReplicaStatus]]) -> None:
        self._question = None
        try:
            self._seen = question.result()
        except RayError as error:
            logger.warning("Serve's controller does not say what runs: %s", error)
