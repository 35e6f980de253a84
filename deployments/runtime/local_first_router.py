"""Routes requests to replicas on the caller's node first, so that bulk data stays in the memory of one machine."""

from __future__ import annotations

import random
from typing import Final

from ray.serve.request_router import FIFOMixin, LocalityMixin, PendingRequest, RequestRouter, RunningReplica

LOCAL_FIRST: Final = {"request_router_class": f"{__name__}:LocalFirstRouter"}
"""The `request_router_config` of a deployment."""


class LocalFirstRouter(FIFOMixin, LocalityMixin, RequestRouter):
    """The less busy of two replicas on the caller's node, or of two of all if those are full."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return two replicas on the caller's node, then two of all; Serve takes the less busy one of each two."""
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True  # wait before the next try if all are full
        near, _, _ = self.rank_replicas_via_locality(candidate_replicas)
        return [random.sample(replicas, min(2, len(replicas))) for replicas in (near, candidate_replicas)]
