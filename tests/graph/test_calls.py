"""Chains of requests through Serve: what a lost upstream replica and a finished chain leave behind."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from ray import ObjectRef, serve
from ray.exceptions import ActorUnavailableError
from ray.serve.handle import DeploymentHandle

from deployments.runtime.calls import CallBounds, Sent, call_stage
from lipwright.errors import ReplicaLostError
from lipwright.telemetry.log_context import CallContext

pytestmark = pytest.mark.slow


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Unreachable:
    """Acts like a replica whose node has just died: callers get an unavailable error."""

    async def features(self) -> Any:
        raise ActorUnavailableError("the node does not answer", None)


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Next:
    """Takes what `features` returns, of this stage or another."""

    async def features(self) -> Any:
        return bytes(1_000_000)

    async def plan(self, features: Any) -> Any:
        return features


@serve.deployment(ray_actor_options={"num_cpus": 0})
class ChainCaller:
    """Calls a chain whose first request returns an object of the store."""

    def __init__(self, second: DeploymentHandle[Any]) -> None:
        self._second = second

    async def num_references_left(self, num_chains: int) -> int:
        """Call so many chains; returns how many callbacks still refer to the results of first requests."""

        def start(_: CallContext) -> Sent[Any]:
            features = self._second.features.remote()
            return features, self._second.plan.remote(features)

        for _ in range(num_chains):
            await call_stage("Next", CallContext("job"), start, CallBounds(30.0, 1, 30.0))
        callbacks = [each for each in gc.get_objects() if "_ready" in type(each).__name__]
        return sum(isinstance(held, ObjectRef) for callback in callbacks for held in gc.get_referents(callback))


@pytest.mark.usefixtures("service_url")
def test_call_stage_after_chain_frees_its_references() -> None:
    caller: DeploymentHandle[Any] = serve.run(
        ChainCaller.bind(Next.bind()),  # type: ignore[attr-defined]
        name="ChainCaller",
        route_prefix=None,
    )
    try:
        assert caller.num_references_left.remote(5).result(timeout_s=60) == 0
    finally:
        serve.delete("ChainCaller")


@pytest.mark.usefixtures("service_url")
def test_it_is_a_lost_try_and_not_an_endless_one() -> None:
    first, second = _deployed(Unreachable), _deployed(Next)
    tries: list[int] = []

    def start(context: CallContext) -> Sent[Any]:
        tries.append(context.attempt)
        features = first.features.remote()
        return features, second.plan.remote(features)

    try:
        with pytest.raises(ReplicaLostError, match="Next"):
            asyncio.run(call_stage("Next", CallContext("job"), start, CallBounds(30.0, 2, 30.0)))
    finally:
        serve.delete("Unreachable")
        serve.delete("Next")
    assert tries == [1, 2]


def _deployed(deployment: Any) -> DeploymentHandle[Any]:
    """A handle of a deployment that runs as an application of its own."""
    handle: DeploymentHandle[Any] = serve.run(deployment.bind(), name=deployment.name, route_prefix=None)
    return handle
