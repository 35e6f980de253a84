"""The router of FaceSynthesis: replicas on the caller's node come first."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve.config import RequestRouterConfig

from deployments.face_synthesis import FaceSynthesis
from deployments.runtime.local_first_router import LOCAL_FIRST, LocalFirstRouter


def _replica(name: str, node: str) -> Any:
    return SimpleNamespace(replica_id=name, node_id=node, availability_zone=None, multiplexed_model_ids=set())


@pytest.mark.parametrize("num_near", [0, 1, 2, 3])
def test_choose_replicas_own_node_first_then_any(num_near: int) -> None:
    router: Any = LocalFirstRouter.__new__(LocalFirstRouter)
    router._self_node_id, router._self_availability_zone = "here", None
    near = [_replica(f"near{number}", "here") for number in range(num_near)]
    replicas = [*near, *(_replica(f"far{number}", "there") for number in range(2))]
    router._update_colocated_replica_ids_with_replicas(replicas)
    request: Any = SimpleNamespace(routing_context=SimpleNamespace(should_backoff=False))
    first, then = asyncio.run(router.choose_replicas(replicas, request))
    assert len(first) == min(2, num_near) and all(each in near for each in first)
    assert len(then) == 2 and all(each in replicas for each in then)
    assert request.routing_context.should_backoff, "no busy loop while all are full"


def test_face_synthesis_uses_it() -> None:
    config = FaceSynthesis._deployment_config.request_router_config  # type: ignore[attr-defined]
    assert isinstance(config, RequestRouterConfig)
    assert config.request_router_class == LOCAL_FIRST["request_router_class"]
